"""Inserting many rows that differ in a few columns only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections, models


class Alike:
    """Rows of a model as ``pattern`` has them, but for the columns that each row brings.

    ``bulk_create`` builds an instance for each row and asks every field of it for its value, which
    is most of the time for 100,000 tasks. Here the columns that rows share are prepared once. As
    with ``bulk_create``, no signal is sent.
    """

    def __init__(self, pattern: models.Model, *own: str) -> None:
        meta = type(pattern)._meta  # noqa: SLF001 - Django's documented way to the fields
        fields = {field.attname: field for field in meta.concrete_fields if not field.generated}
        self._own = [fields.pop(name) for name in own]
        self._shared = [
            field.get_db_prep_save(field.pre_save(pattern, add=True), connection)
            for field in fields.values()
        ]
        self._fields = [*self._own, *fields.values()]
        names = [connection.ops.quote_name(str(field.column)) for field in self._fields]
        self._table = f"{connection.ops.quote_name(meta.db_table)} ({', '.join(names)})"

    def insert(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Insert rows; each tuple has the values of a row's own columns, in their order."""
        # Not ``connection``, which looks it up for each of a million questions.
        database = connections[DEFAULT_DB_ALIAS]
        prepared = [self._prepared(row, database) for row in rows]
        if connection.vendor == "postgresql":
            self._copy(prepared)
            return
        one = f"({', '.join(['%s'] * len(self._fields))})"
        with connection.cursor() as cursor:
            while prepared:
                most = connection.ops.bulk_batch_size(self._fields, prepared)
                some, prepared = prepared[:most], prepared[most:]
                values = ", ".join([one] * len(some))
                statement = f"INSERT INTO {self._table} VALUES {values}"  # noqa: S608 - names only
                cursor.execute(statement, [value for row in some for value in row])

    def _copy(self, prepared: list[list[Any]]) -> None:
        """PostgreSQL's own way; its driver takes longer to read a long INSERT than to run it."""
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY {self._table} FROM STDIN") as copy,
        ):
            for row in prepared:
                copy.write_row(row)

    def _prepared(self, row: tuple[Any, ...], database: Any) -> list[Any]:
        own = [
            field.get_db_prep_save(value, database)
            for field, value in zip(self._own, row, strict=True)
        ]
        return own + self._shared

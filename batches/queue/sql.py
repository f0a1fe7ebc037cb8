"""The few places where PostgreSQL and SQLite are told the same thing in other words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.backends.utils import CursorWrapper

from batches.lanes import BATCH_NUMBER

TASK, ATTEMPT, BATCH, QUEUE = "batches_task", "batches_attempt", "batches_batch", "batches_queue"
SHARE = "batches_share"
WORKSPACE = "batches_workspace"

CHUNK = 5000
"""Rows changed in one transaction: a longer one would keep every other writer waiting."""

# Literals, not parameters: a planner uses a partial index only when it can see that its
# condition holds.
MAY_RUN = (
    "{t}.state = 'queued' AND {t}.run_after IS NULL AND {t}.unmet_dependencies = 0 "
    "AND {t}.waiting_for = ''"
)
READY = MAY_RUN + " AND {t}.dispatched_at IS NULL"
"""What may run, and of which no message is out: only Celery workers are told of rows."""

OPEN = (
    "b.state = 'open' AND b.sealed_at IS NOT NULL AND b.paused_at IS NULL "
    "AND b.cancel_requested_at IS NULL AND b.unmet_after = 0 AND q.paused_at IS NULL"
)
"""A batch ``b`` of the queue ``q`` that tasks may be started of."""

NUMBER_OF_LANE = f"& {BATCH_NUMBER}"
SHARE_OF_TASK = f"s.number = t.lane {NUMBER_OF_LANE}"
"""The share ``s`` that the task ``t`` is in: it says in which queue."""


def is_postgres() -> bool:
    return connection.vendor == "postgresql"


def now() -> str:
    """The database's clock as it reads now, not when the transaction began."""
    return "clock_timestamp()" if is_postgres() else "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'now')"


def moment() -> str:
    """The same, to compare a column with.

    PostgreSQL's clock is volatile, so that a bare call is asked for every row, and is never the
    condition of an index; a subquery is asked once.
    """
    return f"(SELECT {now()})" if is_postgres() else now()


def picked(select: str) -> str:
    """``id`` is among what the select finds, which is run once and first.

    As a join PostgreSQL may read the whole table for it, or run it more than once.
    """
    return f"id = ANY(ARRAY({select}))" if is_postgres() else f"id IN ({select})"


def unindexed(column: str) -> str:
    """The column, such that SQLite does not look for an index on it: it has no statistics to know
    that another one is better."""
    return column if is_postgres() else f"+{column}"


def seconds_left() -> str:
    """Until the deadline of the batch ``b``; NULL without one."""
    if is_postgres():
        return f"extract(epoch from b.deadline - {now()})"
    return "(julianday(b.deadline) - julianday('now')) * 86400.0"


def has(state: str, batch: str) -> str:
    """A batch has a task in that state.

    By the first position rather than EXISTS: PostgreSQL expects that one of many such rows is found
    at once by reading the table, and reads all of it where the batch has none.
    """
    return (
        f"(SELECT h.position FROM {TASK} h WHERE h.batch_id = {batch} AND h.state = '{state}' "
        "ORDER BY h.position LIMIT 1) IS NOT NULL"
    )


def later(seconds: str) -> str:
    """The clock plus ``seconds``, an SQL expression that gives a number (or NULL)."""
    if is_postgres():
        return f"(clock_timestamp() + ({seconds}) * interval '1 second')"
    return f"STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'now', ({seconds}) || ' seconds')"


def locked(kind: str) -> str:
    """A lock clause, where rows can be locked; SQLite's writers wait for each other as a whole."""
    return f" {kind}" if is_postgres() else ""


def one_id(value: UUID) -> Any:
    """An id as a parameter."""
    return value if is_postgres() else value.hex


def ids(values: Iterable[UUID]) -> Any:
    """Ids as one parameter for ``in_ids``."""
    if is_postgres():
        return list(values)
    return json.dumps([value.hex for value in values])


def in_ids(column: str) -> str:
    """``column`` is one of the ids of the parameter."""
    if is_postgres():
        return f"{column} = ANY(%s)"
    return f"{column} IN (SELECT value FROM json_each(%s))"


def texts(values: Iterable[str]) -> Any:
    """Texts as one parameter for ``in_texts``."""
    return list(values) if is_postgres() else json.dumps(list(values))


def in_texts(column: str) -> str:
    """``column`` is one of the texts of the parameter."""
    return in_ids(column)


def as_uuid(value: Any) -> UUID:
    """What a raw cursor gives for an id: a UUID on PostgreSQL, 32 hex digits on SQLite."""
    return value if isinstance(value, UUID) else UUID(hex=value)


def lock_batches(condition: str, params: Sequence[Any]) -> None:
    """Lock batch rows, in the order of their ids, until the transaction ends.

    Writers of many waiting rows of a batch take turns so: each locks rows in an order of its own,
    and two of them would wait for each other.
    """
    if is_postgres():
        rows(
            f"SELECT b.id FROM {BATCH} b WHERE {condition} ORDER BY b.id FOR NO KEY UPDATE", params
        )


def rows(sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run one statement and return what it returns."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def prepared(sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """The same for a statement that is run for every task, and finds its rows by their ids.

    Django puts the parameters into the text, so that PostgreSQL parses and plans it each time:
    two thirds of what a claim by id costs it. This one it prepares once for the connection. Not
    for what names a whole table or a list: a plan for any parameters may be a bad one then.
    """
    if not is_postgres() or connection.queries_logged:
        return rows(sql, params)  # Django's log has statements with their parameters
    with _preparing() as cursor:
        cursor.execute(sql, params)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def _preparing() -> CursorWrapper:
    """A cursor that prepares; on a connection that is looked after as for any other of Django's."""
    from psycopg import Cursor  # noqa: PLC0415 - an installation on SQLite has no use for it

    connection.close_if_health_check_failed()
    connection.ensure_connection()
    raw = connection.connection
    raw.prepare_threshold = 0
    return CursorWrapper(Cursor(raw), connection)


def change(sql: str, params: Sequence[Any] = ()) -> int:
    """Run one statement and return how many rows it changed."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        changed: int = cursor.rowcount
        return changed

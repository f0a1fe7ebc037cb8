"""All results of a batch in submission order, streamed.

Rows are read in short pages by key: one long read would keep SQLite's log from being folded back,
and PostgreSQL's old rows from being removed.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db.models import Q
from rest_framework.utils.encoders import JSONEncoder

from batches.models import Task

FIELDS = (
    "position", "custom_id", "id", "state", "failure", "attempt", "result", "error",
    "started_at", "finished_at",
)  # fmt: skip
PAGE = 500


def rows(batch: UUID) -> Iterator[dict[str, Any]]:
    """The tasks of a batch as ``FIELDS``, by position."""
    tasks = Task.objects.filter(batch=batch).order_by("position", "variant")
    beyond = Q()
    while page := list(tasks.filter(beyond).values("variant", *FIELDS)[:PAGE]):
        last = page[-1]
        beyond = Q(position__gt=last["position"]) | Q(
            position=last["position"], variant__gt=last["variant"]
        )
        for row in page:
            del row["variant"]
            yield row


def json_lines(batch: UUID) -> Iterator[str]:
    encode = JSONEncoder().encode
    for row in rows(batch):
        yield encode({name: row[name] for name in FIELDS}) + "\n"


class _Line:
    """What ``csv.writer`` writes to; ``write`` gives the line back through ``writerow``."""

    def write(self, line: str) -> str:
        return line


def csv_lines(batch: UUID) -> Iterator[str]:
    """With a header; ``result`` is JSON text."""
    writer = csv.writer(_Line())
    yield writer.writerow(FIELDS)
    for row in rows(batch):
        yield writer.writerow([_cell(name, row[name]) for name in FIELDS])


def _cell(name: str, value: Any) -> Any:
    if value is None:
        return ""
    if name == "result":
        return json.dumps(value)
    if name in {"started_at", "finished_at"}:
        return value.isoformat()
    # Spreadsheets run a cell that begins like a formula (OWASP, "CSV Injection").
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value

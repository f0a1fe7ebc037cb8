"""All results of a batch in submission order, a task a line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any

from rest_framework.utils.encoders import JSONEncoder

from batches.exports.selection import Row, Selection

FIELDS = (
    "position", "custom_id", "variant", "id", "state", "failure", "attempt", "result", "error",
    "started_at", "finished_at",
)  # fmt: skip
PAGE = 500


def _rows(chosen: Selection) -> Iterator[Row]:
    for page in chosen.pages(PAGE, *FIELDS):
        yield from page


def json_lines(chosen: Selection) -> Iterator[str]:
    encode = JSONEncoder().encode
    for row in _rows(chosen):
        yield encode({name: row[name] for name in FIELDS}) + "\n"


class _Line:
    """What ``csv.writer`` writes to; ``write`` gives the line back through ``writerow``."""

    def write(self, line: str) -> str:
        return line


def csv_lines(chosen: Selection) -> Iterator[str]:
    """With a header; ``result`` is JSON text."""
    writer = csv.writer(_Line())
    yield writer.writerow(FIELDS)
    for row in _rows(chosen):
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

"""The results of a batch as text, streamed: read in short pages, never held as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from batches.exports.junit import junit_suites
from batches.exports.request_results import request_results
from batches.exports.sarif import sarif_log
from batches.exports.selection import Selection
from batches.exports.tabular import csv_lines, json_lines

FORMATS: dict[str, Callable[[Selection], Iterator[str]]] = {
    "jsonl": json_lines,
    "csv": csv_lines,
    "openai": request_results,
    "sarif": sarif_log,
    "junit": junit_suites,
}
"""The last two raise Conflict, before anything is read, for a batch that has no such results."""

__all__ = ["FORMATS", "Selection"]

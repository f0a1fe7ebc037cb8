"""The findings of a batch as one SARIF 2.1.0 log.

It has one run, of the console, whose results name their own tool: a log with a run for each tool
could not be written in one pass. What was not checked is said at its end, so that no finding is
not mistaken for no fault.
Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeAlias
from urllib.parse import quote
from uuid import UUID

from batches.exports.selection import Row, Selection, last_artefacts
from batches.models import Artefact
from batches.states import Failure, TaskState

JSON: TypeAlias = dict[str, Any]

PAGE = 100
"""A result may hold a quarter of a megabyte of findings."""
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
ALL_FINDINGS = "findings.sarif"
"""The artefact that holds them where there are too many for the result."""
LONGEST_FINDING = 4 * 1024 * 1024
MOST_NOTICES = 1000


def sarif_log(chosen: Selection) -> Iterator[str]:
    """
    Raises:
        Conflict: the batch is of a kind that has no findings.
    """
    chosen.require("validation", "findings")
    return _log(chosen)


def _log(chosen: Selection) -> Iterator[str]:
    about = {
        "tool": {"driver": {"name": "Ollama Coder"}},
        "columnKind": "unicodeCodePoints",
        "automationDetails": {"id": f"{quote(chosen.batch.name or 'batch')}/{chosen.batch.pk}"},
    }
    yield f'{{"$schema": "{SCHEMA}", "version": "2.1.0", "runs": [\n'
    yield json.dumps(about).removesuffix("}") + ',\n"results": ['
    notices = _Notices()
    separator = "\n"
    fields = "id", "custom_id", "state", "failure", "attempt", "payload", "result", "error"
    for page in chosen.pages(PAGE, *fields):
        kept = last_artefacts(filter(_is_truncated, page), ALL_FINDINGS)
        for row in page:
            for finding in _findings(row, kept, notices):
                finding.setdefault("properties", {}).update(_names(row))
                yield separator + json.dumps(finding)
                separator = ",\n"
    yield f'\n],\n"invocations": [{json.dumps(notices.invocation())}]}}]}}\n'


def _names(row: Row) -> JSON:
    named = {"task": str(row["id"]), "item": row["custom_id"]}
    return named | ({"variant": row["variant"]} if row["variant"] else {})


def _is_truncated(row: Row) -> bool:
    return bool((row["result"] or {}).get("truncated"))


def _place(row: Row) -> list[JSON]:
    path = row["payload"].get("path")
    return [{"physicalLocation": {"artifactLocation": {"uri": quote(path)}}}] if path else []


class _Notices:
    """Why tasks have not all the findings that there may be, the first of them in words."""

    def __init__(self) -> None:
        self._shown: list[JSON] = []
        self._more = 0

    def add(self, row: Row, level: str, text: str) -> None:
        if len(self._shown) >= MOST_NOTICES:
            self._more += 1
            return
        self._shown.append(
            {
                "level": level,
                "message": {"text": text},
                "locations": _place(row),
                "properties": _names(row),
            }
        )

    def invocation(self) -> JSON:
        """Successful only if every task was checked to its end."""
        shown = list(self._shown)
        if self._more:
            text = f"{self._more} more tasks were not checked to their end."
            shown.append({"level": "error", "message": {"text": text}})
        return {"executionSuccessful": not shown, "toolExecutionNotifications": shown}


def _findings(row: Row, kept: dict[UUID, Artefact], notices: _Notices) -> Iterator[JSON]:
    """Of one task; what is missing goes to ``notices``."""
    if row["state"] not in {TaskState.SUCCEEDED, TaskState.FAILED}:
        level = "warning" if row["state"] == TaskState.CANCELLED else "note"
        notices.add(row, level, f"The task is {row['state']}: it has no findings.")
        return
    answer = row["failure"] in {"", Failure.REJECTED}
    if answer and "command" in (row["result"] or {}):
        if row["failure"]:
            yield _of_command(row)
        return
    errors = 0
    for finding in _all_of(row, kept, notices):
        errors += finding.get("level") == "error"
        yield finding
    if row["failure"] and not (answer and errors):
        notices.add(row, "error", row["error"] or f"The task failed: {row['failure']}.")


def _of_command(row: Row) -> JSON:
    """A check command says no by its exit code alone."""
    return {
        "ruleId": "check-command",
        "level": "error",
        "message": {"text": row["error"] or "The check command failed."},
        "locations": _place(row),
        "properties": {"tool": row["result"]["command"]},
    }


def _all_of(row: Row, kept: dict[UUID, Artefact], notices: _Notices) -> Iterator[JSON]:
    shown = (row["result"] or {}).get("findings", [])
    if not _is_truncated(row):
        yield from shown
        return
    given = 0
    try:
        for finding in _from_file(kept.get(row["id"])):
            given += 1
            yield finding
    except (OSError, ValueError) as error:
        yield from shown[given:]  # the file begins with them
        given = max(given, len(shown))
        missing = f"Only {given} of {row['result']['total']} findings are listed"
        notices.add(row, "error", f"{missing}: {ALL_FINDINGS} cannot be read ({error}).")


def _from_file(kept: Artefact | None) -> Iterator[JSON]:
    """The results of a file as ``agents.findings`` writes it: one a line.

    Raises:
        OSError: it is not there any more.
        ValueError: it is no such file, or ends early.
    """
    if kept is None:
        raise FileNotFoundError("it is not kept any more")
    with kept.file.open("rb") as file:
        while line := file.readline(LONGEST_FINDING):
            if line == b'"results": [\n':
                break
        while line := file.readline(LONGEST_FINDING):
            if line.startswith(b"]"):
                return
            finding = json.loads(line.rstrip(b",\n"))
            if not isinstance(finding, dict):
                raise ValueError("it holds what is no finding")  # noqa: TRY004
            yield finding
    raise ValueError("it ends early")

"""The test results of a batch as one JUnit XML, a suite a task.

A task that failed is never shown all green, and one that did not run is shown as skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, Any
from xml.etree import ElementTree as ET
from xml.sax.saxutils import quoteattr

from batches.exports.reports import Totals, Unreadable, add_part, case, clean, read_cases
from batches.exports.selection import Row, Selection, last_artefacts
from batches.models import Artefact
from batches.states import Failure, TaskState

PAGE = 100
"""A result may hold half a megabyte of cases and output."""
REPORT = "junit.xml"
COLUMNS = {"task": "id", "item": "custom_id"}
"""Property of a suite → the task's column, where it has another name."""
TAGS = {"failed": "failure", "error": "error", "skipped": "skipped", "xfailed": "skipped"}
"""Outcome of a case of a result → what JUnit calls it."""


def junit_suites(chosen: Selection) -> Iterator[str]:
    """
    Raises:
        Conflict: the batch is of a kind that runs no tests.
    """
    chosen.require("test", "test results")
    return _document(chosen)


def _document(chosen: Selection) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="utf-8"?>\n'
    yield f"<testsuites name={quoteattr(clean(chosen.batch.name or str(chosen.batch.pk)))}>\n"
    fields = (
        "id", "custom_id", "state", "failure", "attempt", "payload", "result", "error",
        "started_at",
    )  # fmt: skip
    for page in chosen.pages(PAGE, *fields):
        reports = last_artefacts(page, REPORT)
        for row in page:
            yield from _suite(row, reports.get(row["id"]))
    yield "</testsuites>\n"


def _suite(row: Row, kept: Artefact | None) -> Iterator[str]:
    if row["state"] not in {TaskState.SUCCEEDED, TaskState.FAILED}:
        waiting = add_part(case(_path(row), _path(row)), "skipped", f"the task is {row['state']}")
        yield from _written(row, Totals(), [], waiting)
        return
    problem = "it is not kept any more"
    if kept is not None:
        try:
            report, totals = _counted(kept)
        except (OSError, Unreadable) as error:
            problem = str(error)
        else:
            with report:
                yield from _written(row, totals, read_cases(report), _verdict(row, totals))
            return
    result = row["result"] or {}
    held = [_held(each) for each in result.get("cases", ())]
    note = ""
    if kept is not None or result.get("cases_truncated"):
        note = f"{REPORT} cannot be read ({problem}): these are the cases that the result holds."
    totals = Totals.of(held)
    yield from _written(row, totals, held, _verdict(row, totals), note)


def _path(row: Row) -> str:
    return str(row["payload"].get("path") or row["custom_id"])


def _counted(kept: Artefact) -> tuple[IO[bytes], Totals]:
    """The report, at its beginning, and what is in it: read to its end, it can be copied safely.

    Raises:
        OSError: it is not in the storage any more.
        Unreadable: it is no report.
    """
    report: IO[bytes] = kept.file.open("rb")
    try:
        totals = Totals.of(read_cases(report))
    except BaseException:
        report.close()
        raise
    report.seek(0)
    return report, totals


def _held(said: dict[str, Any]) -> ET.Element:
    """A case as a result holds it, whose id is ``file::Class::name``."""
    file, _, name = said["id"].partition("::")
    made = case(file, name or file, said["seconds"])
    if tag := TAGS.get(said["outcome"]):
        add_part(made, tag, said.get("message", ""), said.get("text", ""))
    return made


def _verdict(row: Row, totals: Totals) -> ET.Element | None:
    """A case for what the cases do not say: that the task failed, or that a command did well."""
    result = row["result"] or {}
    red = totals.failures or totals.errors
    if (totals.tests and not row["failure"]) or (red and row["failure"] == Failure.REJECTED):
        return None
    seconds = 0.0 if totals.tests else result.get("seconds", 0.0)
    made = case(_path(row), result.get("command", _path(row)), seconds)
    if not row["failure"]:
        return made
    # A command that is not pytest answers by its exit code: its no is a failure, not an error.
    answered = "command" in result and "cases" not in result
    tag = "failure" if answered and row["failure"] == Failure.REJECTED else "error"
    return add_part(made, tag, row["error"] or row["failure"], _output(result))


def _output(result: dict[str, Any]) -> str:
    """Head and tail of what the command printed."""
    if not (output := result.get("output")):
        return ""
    gap = "\n[…]\n" if output["truncated"] else ""
    return f"{output['head']}{gap}{output['tail']}"


def _written(
    row: Row,
    totals: Totals,
    cases: Iterable[ET.Element],
    verdict: ET.Element | None,
    note: str = "",
) -> Iterator[str]:
    """``totals`` are those of ``cases``, which are read once."""
    if verdict is not None:
        totals.add(verdict)
    suite = {
        "name": _path(row),
        "tests": totals.tests,
        "failures": totals.failures,
        "errors": totals.errors,
        "skipped": totals.skipped,
        "time": f"{totals.seconds:.3f}",
    }
    if row["started_at"]:
        suite["timestamp"] = row["started_at"].isoformat()
    yield f"<testsuite{_attributes(suite)}>\n<properties>"
    for name in ("task", "item", "variant", "state"):
        value = row[COLUMNS.get(name, name)]
        if name == "variant" and not value:
            continue
        yield f"<property{_attributes({'name': name, 'value': value})}/>"
    yield "</properties>\n"
    for each in cases:
        yield _text(each)
    if verdict is not None:
        yield _text(verdict)
    if note:
        remark = ET.Element("system-err")
        remark.text = clean(note)
        yield _text(remark)
    yield "</testsuite>\n"


def _attributes(named: dict[str, Any]) -> str:
    return "".join(f" {name}={quoteattr(clean(str(value)))}" for name, value in named.items())


def _text(element: ET.Element) -> str:
    return ET.tostring(element, encoding="unicode") + "\n"

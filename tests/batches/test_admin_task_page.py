"""The page of a task: attempts, log, results, files; what tasks wrote is shown as text only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batches.admin import task_page
from batches.models import Artefact, Batch, LogLine, Task
from batches.states import AttemptOutcome
from batches.submission import Item

# What a page shows does not depend on the database.
pytestmark = pytest.mark.sqlite_only

BAD = "<img src=x onerror=alert(1)>"
SHOWN = "&lt;img src=x onerror=alert(1)&gt;"


@pytest.fixture
def browser(admin: User) -> Client:
    User.objects.filter(pk=admin.pk).update(is_staff=True)
    browser = Client()
    browser.force_login(admin)
    return browser


@pytest.fixture
def task(admin: User, make_batch: Callable[..., Batch]) -> Task:
    return make_batch(admin, 1).tasks.get()


def address(task: Task) -> str:
    return f"/admin/batches/task/{task.pk}/change/"


def with_result(task: Task, kind: str, result: Any) -> None:
    Task.objects.filter(pk=task.pk).update(kind=kind, result=result)


def test_a_failed_task_tells_each_attempt_and_why(
    browser: Client, task: Task, finish: Callable[..., Any]
) -> None:
    finish(AttemptOutcome.ERROR, error=f"{BAD} the disk is full", sandbox="bubblewrap")
    page = browser.get(address(task)).text
    assert BAD not in page
    assert f"{SHOWN} the disk is full" in page
    assert "bubblewrap" in page
    assert "starts in" in page
    assert "1 of 3 failures used" in page


def test_the_running_attempt_is_shown_before_it_is_a_row(
    browser: Client, task: Task, start: Callable[..., Any]
) -> None:
    start(1)
    shown = browser.get(address(task)).context["attempts"]
    assert [(one["number"], one["outcome"], one["worker"]) for one in shown] == [
        (1, "running", "w1")
    ]


def test_the_log_shows_its_end_and_leads_to_its_beginning(browser: Client, task: Task) -> None:
    LogLine.objects.bulk_create(
        LogLine(task=task, attempt=1, at=timezone.now(), event=f"line {n}", fields={"n": n})
        for n in range(450)
    )
    page = browser.get(address(task))
    seen = []
    while True:
        events = re.findall(r"<b>(line \d+)</b>", page.text)
        assert len(events) <= task_page.LOG_LINES
        seen[:0] = events
        older = re.search(r'href="(\?log_before=\d+)#log"', page.text)
        if older is None:
            break
        page = browser.get(address(task) + older[1])
        assert "newest lines" in page.text
    assert seen == [f"line {n}" for n in range(450)]


def test_the_log_is_text(browser: Client, task: Task) -> None:
    LogLine.objects.create(
        task=task,
        attempt=1,
        at=timezone.now(),
        event=BAD,
        fields={BAD: BAD, "long": "y" * 5_000, "nested": {"a": [1]}},
    )
    page = browser.get(address(task)).text
    assert BAD not in page
    assert page.count("y" * 100) < 30
    assert "nested={&quot;a&quot;: [1]}" in page


def test_findings_are_a_table(browser: Client, task: Task) -> None:
    finding = {
        "ruleId": "E501",
        "level": "error",
        "message": {"text": f"Line too long {BAD}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": "src/a%20b.py"},
                    "region": {"startLine": 12, "startColumn": 80},
                }
            }
        ],
        "properties": {"check": "lint", "tool": "ruff"},
    }
    checks = {"lint": {"ok": False, "findings": 1}, "types": {"skipped": "ty is not there"}}
    result = {"path": "src", "ok": False, "checks": checks, "total": 9, "findings": [finding]}
    with_result(task, "validation", result)
    page = browser.get(address(task)).text
    assert "<code>src/a b.py:12:80</code>" in page
    assert "<code>E501</code>" in page
    assert f"Line too long {SHOWN}" in page
    assert "9 findings; the first 1 are shown" in page
    assert "lint failed" in page
    assert "types skipped" in page


def test_test_cases_are_a_table_with_failures_first(browser: Client, task: Task) -> None:
    cases = [
        {"id": "t.py::a", "outcome": "passed", "seconds": 0.01, "message": "", "text": ""},
        {"id": "t.py::b", "outcome": "skipped", "seconds": 0, "message": "no GPU", "text": ""},
        {"id": "t.py::c", "outcome": "failed", "seconds": 1.5, "message": "1 != 2", "text": BAD},
    ]
    counts = {"passed": 1, "skipped": 1, "failed": 1}
    result = {"ok": False, "cases": cases, "counts": counts, "total": 3, "running": "t.py::d"}
    with_result(task, "test", result | {"output": f"{BAD} output"})
    page = browser.get(address(task)).text
    assert re.findall(r"<code>(t\.py::[abc])</code>", page) == ["t.py::c", "t.py::b", "t.py::a"]
    assert "1.500 s" in page
    assert "1 != 2" in page
    assert "1 skipped" in page
    assert "Running when it ended: <code>t.py::d</code>" in page
    assert f"{SHOWN} output" in page
    assert BAD not in page


@pytest.mark.parametrize("kind", ["validation", "test", "noop"])
@pytest.mark.parametrize(
    "result", [{"exit_code": 1, "output": BAD}, {"cases": 3}, {}, {"a": [BAD]}]
)
def test_any_result_is_shown_somehow(kind: str, result: Any, browser: Client, task: Task) -> None:
    with_result(task, kind, result)
    page = browser.get(address(task)).text
    assert BAD not in page
    if BAD in json.dumps(result):
        assert SHOWN in page


def test_a_huge_result_is_cut_and_can_be_downloaded_whole(browser: Client, task: Task) -> None:
    result = {"output": "z" * 100_000, "more": ["z" * 100_000]}
    with_result(task, "test", result)
    page = browser.get(address(task)).text
    assert len(page) < 120_000
    download = f"/admin/batches/task/{task.pk}/result.json"
    assert download in page
    answer = browser.get(download)
    assert answer.json() == result
    assert answer["Content-Disposition"] == f'attachment; filename="{task.pk}-result.json"'
    assert browser.get(f"/admin/batches/task/{task.pk}/payload.json").json() == task.payload
    assert browser.get(f"/admin/batches/task/{task.pk}/error.json").status_code == 404


def test_files_are_downloads_whatever_they_say_they_are(browser: Client, task: Task) -> None:
    kept = Artefact(task=task, attempt=1, name="page.html", media_type="text/html", size=8)
    kept.file.save(kept.name, ContentFile(b"<script>"))
    download = f"/admin/batches/task/{task.pk}/artefacts/1/page.html"
    assert download in browser.get(address(task)).text
    answer = browser.get(download)
    assert b"".join(answer.streaming_content) == b"<script>"
    assert answer["Content-Disposition"] == 'attachment; filename="page.html"'
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["X-Content-Type-Options"] == "nosniff"
    kept.file.delete(save=False)
    assert browser.get(download).status_code == 404
    assert browser.get(download.replace("/1/", "/2/")).status_code == 404


def test_a_task_names_those_it_waits_for(
    admin: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    items = [Item(payload={}, id="first"), Item(payload={}, id="then", depends_on=("first",))]
    first, then = make_batch(admin, items=items).tasks.order_by("position")
    page = browser.get(address(then)).text
    assert address(first) in page
    assert "waits for other tasks" in page
    assert address(then) in browser.get(address(first)).text


def test_a_page_costs_a_bounded_number_of_queries(
    browser: Client, task: Task, finish: Callable[..., Any]
) -> None:
    finish(AttemptOutcome.REJECTED, result={"a": 1})
    with CaptureQueriesContext(connection) as ran:
        browser.get(address(task))
    assert len(ran) == 10


def test_hostile_payloads_and_long_errors_are_text(browser: Client, task: Task) -> None:
    Task.objects.filter(pk=task.pk).update(
        payload={"path": f"\u202e{BAD}", "long": "p" * 50_000},
        state="failed",
        failure="error",
        error=BAD + "e" * 100_000 + "the end",
        finished_at=timezone.now(),
    )
    page = browser.get(address(task)).text
    assert BAD not in page
    assert SHOWN in page
    assert "the end" in page
    assert len(page) < 120_000

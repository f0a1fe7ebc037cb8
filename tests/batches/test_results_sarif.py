"""The findings of a batch as one SARIF 2.1.0 log."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from django.core.files.base import ContentFile

from agents.findings import Findings, result
from batches.exports import Selection, sarif
from batches.models import Artefact, Task
from batches.states import AttemptOutcome
from batches.submission import Item

pytestmark = pytest.mark.django_db

SUCCEEDED, REJECTED, ERROR = (
    AttemptOutcome.SUCCEEDED,
    AttemptOutcome.REJECTED,
    AttemptOutcome.ERROR,
)
LEVELS = {"none", "note", "warning", "error"}


@pytest.fixture
def client(client_of, viewer):
    return client_of(viewer)


@pytest.fixture
def checked(make_batch, operator, red):
    """A batch of validation tasks, one for each path."""

    def make(*paths: str, **fields):
        items = [Item({"path": path}, id=f"t{n}") for n, path in enumerate(paths)]
        return make_batch(
            operator, items=items, kind="validation", workspace="red", max_attempts=1, **fields
        )

    return make


def found(number: int, path: str = "a b.py", level: str = "error") -> list[dict]:
    region = {"startLine": 1, "startColumn": 2}
    made = [result("ruff", "F401", f"é {n} \u2028", path, region, level) for n in range(number)]
    return [{**each, "properties": {**each["properties"], "check": "lint"}} for each in made]


def answer(findings: list[dict], total: int | None = None) -> dict:
    return {
        "path": "a b.py", "ok": not findings, "checks": {}, "findings": findings,
        "total": total or len(findings), "truncated": total is not None,
    }  # fmt: skip


def log_of(text: str) -> dict:
    """The log, which holds what SARIF 2.1.0 demands of one."""
    log = json.loads(text)
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    [run] = log["runs"]
    assert run["tool"]["driver"]["name"]
    assert run["columnKind"] in {"utf16CodeUnits", "unicodeCodePoints"}
    for each in run["results"]:
        assert each["level"] in LEVELS
        assert isinstance(each["message"]["text"], str)
        for location in each["locations"]:
            uri = location["physicalLocation"]["artifactLocation"]["uri"]
            assert not uri.startswith("/")
            assert " " not in uri
        UUID(each["properties"]["task"])
    for invocation in run["invocations"]:
        assert isinstance(invocation["executionSuccessful"], bool)
        for notice in invocation["toolExecutionNotifications"]:
            assert notice["level"] in LEVELS
            assert notice["message"]["text"]
    return log


def asked(client, batch) -> dict:
    response = client.get(f"/batch/{batch.pk}/sarif")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/sarif+json; charset=utf-8"
    assert f'"{batch.pk}.sarif"' in response.headers["Content-Disposition"]
    return log_of(b"".join(response.streaming_content).decode())["runs"][0]


def test_all_findings_are_results_that_name_their_task(client, checked, finish):
    batch = checked("a b.py", "clean.py", name="a ü/b")
    finish(REJECTED, result=answer(found(2)), error="a b.py: findings in 2 lint")
    finish(SUCCEEDED, result=answer(found(1, "clean.py", "warning")))
    run = asked(client, batch)
    first, second = Task.objects.filter(batch=batch).order_by("position")
    assert [each["properties"]["task"] for each in run["results"]] == [
        str(first.pk), str(first.pk), str(second.pk),
    ]  # fmt: skip
    assert run["results"][0]["properties"] == {
        "tool": "ruff", "check": "lint", "task": str(first.pk), "item": "t0",
    }  # fmt: skip
    where = run["results"][0]["locations"][0]["physicalLocation"]
    assert where["artifactLocation"]["uri"] == "a%20b.py"
    assert [each["level"] for each in run["results"]] == ["error", "error", "warning"]
    [invocation] = run["invocations"]
    assert invocation == {"executionSuccessful": True, "toolExecutionNotifications": []}


def test_more_findings_than_a_result_holds_come_from_the_file(client, checked, finish, tmp_path):
    batch = checked("a b.py", "lost.py")
    findings = Findings(lambda: tmp_path / "findings.sarif")
    for each in found(1100):
        findings.add("lint", each)
    findings.close()
    assert findings.truncated
    finish(REJECTED, REJECTED, result=answer(findings.shown[:7], findings.total), error="no")
    first, lost = Task.objects.filter(batch=batch).order_by("position")
    kept = Artefact.objects.create(
        task=first, attempt=1, name="findings.sarif", media_type="application/sarif+json",
        size=1, file=ContentFile((tmp_path / "findings.sarif").read_bytes(), "findings.sarif"),
    )  # fmt: skip
    try:
        run = asked(client, batch)
        tasks = [each["properties"]["task"] for each in run["results"]]
        assert tasks == [str(first.pk)] * 1100 + [str(lost.pk)] * 7
        numbers = [each["message"]["text"].split()[1] for each in run["results"][:1100]]
        assert numbers == [str(n) for n in range(1100)]
        # What is missing of the other is said.
        [notice] = run["invocations"][0]["toolExecutionNotifications"]
        assert "Only 7 of 1100 findings" in notice["message"]["text"]
        assert notice["properties"]["task"] == str(lost.pk)

        with kept.file.open("r+b") as cut:
            cut.truncate(len(cut.read()) // 2)
        run = asked(client, batch)
        assert 400 < len(run["results"]) - 7 < 700
        notices = run["invocations"][0]["toolExecutionNotifications"]
        assert [notice["properties"]["item"] for notice in notices] == ["t0", "t1"]
    finally:
        kept.file.delete()


def test_what_was_not_checked_is_said(client, checked, finish, start):
    batch = checked("broken.py", "odd.py", "partly.py", "run.py", "waits.py")
    finish(ERROR, error="ruff ended with exit code 9")
    finish(REJECTED, result=answer([]), error="ruff failed: your pyproject.toml")
    finish(AttemptOutcome.TIMEOUT, result=answer(found(1, "partly.py")), error="out of time")
    start(1)
    run = asked(client, batch)
    assert len(run["results"]) == 1
    [invocation] = run["invocations"]
    assert not invocation["executionSuccessful"]
    said = [
        (notice["properties"]["item"], notice["level"], notice["message"]["text"])
        for notice in invocation["toolExecutionNotifications"]
    ]
    assert said == [
        ("t0", "error", "ruff ended with exit code 9"),
        ("t1", "error", "ruff failed: your pyproject.toml"),
        ("t2", "error", "out of time"),
        ("t3", "note", "The task is running: it has no findings."),
        ("t4", "note", "The task is queued: it has no findings."),
    ]


def test_a_check_command_that_says_no_is_one_finding(client, checked, finish):
    batch = checked("a.py", "b.py")
    ended = {"path": "a.py", "ok": False, "command": "mypy a.py", "exit_code": 1, "output": "x"}
    finish(REJECTED, result=ended, error="mypy: exit code 1")
    finish(SUCCEEDED, result={**ended, "ok": True, "exit_code": 0})
    run = asked(client, batch)
    [one] = run["results"]
    assert one["message"]["text"] == "mypy: exit code 1"
    assert one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a.py"
    assert run["invocations"][0]["executionSuccessful"]


def test_a_thousand_findings_are_read_a_page_at_a_time(
    checked, finish, monkeypatch, django_assert_num_queries
):
    monkeypatch.setattr(sarif, "PAGE", 10)
    batch = checked(*(f"f{n}.py" for n in range(24)))
    finish(*[REJECTED] * 24, result=answer(found(50)), error="no")
    log = sarif.sarif_log(Selection(batch))
    with django_assert_num_queries(1):
        begun = [next(log) for _ in range(500)]
    # Two more pages, and the one that shows there is no more.
    with django_assert_num_queries(3):
        text = "".join([*begun, *log])
    [run] = log_of(text)["runs"]
    assert len(run["results"]) == 1200
    assert len({each["properties"]["task"] for each in run["results"]}) == 24


def test_notices_are_counted_beyond_the_first(checked, monkeypatch):
    monkeypatch.setattr(sarif, "MOST_NOTICES", 2)
    batch = checked(*(f"f{n}.py" for n in range(5)))
    [run] = log_of("".join(sarif.sarif_log(Selection(batch))))["runs"]
    notices = run["invocations"][0]["toolExecutionNotifications"]
    assert [notice["message"]["text"] for notice in notices[2:]] == [
        "3 more tasks were not checked to their end."
    ]


@pytest.mark.parametrize(("kind", "better"), [("noop", "results"), ("test", "junit or results")])
def test_a_batch_of_another_kind_says_what_it_has(client, make_batch, operator, red, kind, better):
    batch = make_batch(operator, items=[Item({"path": "t"})], kind=kind, workspace="red")
    response = client.get(f"/batch/{batch.pk}/sarif")
    assert response.status_code == 409
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["detail"] == (
        f"Only batches of kind validation have findings; this one is of kind {kind}. "
        f"Ask for its {better}."
    )

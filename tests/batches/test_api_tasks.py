"""Tasks over REST: what is shown of one, its log and files, change, cancel and retry."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.utils import timezone

from batches.models import Artefact, LogLine, Task
from batches.states import AttemptOutcome
from batches.submission import Item

pytestmark = pytest.mark.django_db

SUCCEEDED, REJECTED, ERROR, LIMIT = (
    AttemptOutcome.SUCCEEDED,
    AttemptOutcome.REJECTED,
    AttemptOutcome.ERROR,
    AttemptOutcome.LIMIT,
)


@pytest.fixture
def client(client_of, operator):
    return client_of(operator)


@pytest.fixture
def task(operator, make_batch) -> Task:
    make_batch(operator, 1)
    return Task.objects.get()


def keep(task: Task, attempt: int, content: bytes, name: str = "report.xml") -> Artefact:
    return Artefact.objects.create(
        task=task,
        attempt=attempt,
        name=name,
        media_type="application/xml",
        file=ContentFile(content, name),
        size=len(content),
    )


def test_a_task_is_answered_with_the_fields_of_the_design(client, task):
    body = client.get(f"/batch/tasks/{task.pk}").json()
    assert list(body) == [
        "id", "batch", "custom_id", "variant", "position", "kind", "queue", "priority", "state",
        "failure", "attempt", "failures", "max_attempts", "timeout", "depends_on", "payload",
        "result", "error", "attempts", "artefacts", "decision", "created_at", "started_at",
        "finished_at",
    ]  # fmt: skip
    assert (body["id"], body["batch"]) == (str(task.pk), str(task.batch_id))
    assert (body["queue"], body["state"], body["payload"]) == ("default", "queued", {"n": 0})


def test_attempts_and_files_are_listed(client, task, finish):
    finish(LIMIT, error="too many lines", sandbox="bubblewrap")
    artefact = keep(task, 1, b"<x/>")
    body = client.get(f"/batch/tasks/{task.pk}").json()
    assert (body["state"], body["failure"], body["error"]) == ("failed", "limit", "too many lines")
    [attempt] = body["attempts"]
    assert attempt["number"] == 1
    assert attempt["outcome"] == "limit"
    assert attempt["worker"] == "w1"
    assert attempt["sandbox"] == "bubblewrap"
    [file] = body["artefacts"]
    assert (file["name"], file["attempt"], file["size"]) == ("report.xml", 1, 4)
    assert b"".join(client.get(file["url"]).streaming_content) == b"<x/>"
    artefact.file.delete()


def test_what_a_task_waits_for_is_named(client, operator, make_batch):
    make_batch(
        operator,
        items=[Item({}, id="a"), Item({}, id="b"), Item({}, id="c", depends_on=("b", "a"))],
    )
    last = Task.objects.get(custom_id="c")
    assert client.get(f"/batch/tasks/{last.pk}").json()["depends_on"] == ["a", "b"]


def test_tasks_of_all_batches_are_filtered(client, operator, make_batch, finish, red):
    make_batch(operator, items=[Item({}, id=name) for name in ("ok", "no", "dead")], max_attempts=1)
    finish(SUCCEEDED, REJECTED, ERROR)
    other = make_batch(
        operator, items=[Item({}, id="other")], kind="append", queue="low_priority", workspace="red"
    )
    ask = lambda query: {  # noqa: E731
        task["custom_id"] for task in client.get(f"/batch/tasks?{query}").json()["results"]
    }
    assert ask("") == {"ok", "no", "dead", "other"}
    assert ask("state=failed") == {"no", "dead"}
    assert ask("failure=error&failure=lost") == {"dead"}
    assert ask("dead=true") == {"dead"}
    assert ask("dead=false") == {"ok", "no", "other"}
    assert ask("dead=") == ask("")
    assert ask("kind=append") == {"other"}
    assert ask("queue=low_priority") == {"other"}
    assert ask("workspace=red") == {"other"}
    assert ask(f"batch={other.pk}") == {"other"}
    assert ask("custom_id=no") == {"no"}
    assert ask("text=O") == {"ok", "no", "other"}
    for wrong in ("state=done", "batch=x", "custom_id=%00", "stat=failed", "queue=%00"):
        assert client.get(f"/batch/tasks?{wrong}").status_code == 400, wrong


@pytest.mark.parametrize("word", ["null", "yes", "1", "dead"])
def test_a_filter_that_is_neither_true_nor_false_is_refused(client, word):
    response = client.get(f"/batch/tasks?dead={word}")
    assert response.status_code == 400
    assert response.json()["detail"] == "dead: Must be true or false."


def test_running_tasks_are_found_among_the_others(client, operator, make_batch, start):
    make_batch(operator, 5)
    running = {str(lease.task_id) for lease in start(2)}
    found = client.get("/batch/tasks?state=running").json()["results"]
    assert {task["id"] for task in found} == running
    assert len(client.get("/batch/tasks?state=running&state=queued").json()["results"]) == 5


def test_a_head_request_is_answered_without_a_body(client, task):
    for address in ("/batch", "/batch/tasks", f"/batch/tasks/{task.pk}", "/batch/stats"):
        response = client.head(address)
        assert (response.status_code, response.content) == (200, b"")


def test_a_page_of_tasks_costs_the_same_however_many_there_are(
    client, operator, make_batch, finish, django_assert_num_queries
):
    make_batch(operator, 2)
    finish(SUCCEEDED)
    # Token 2, permissions 2, tasks, attempts, artefacts, dependencies, decisions.
    with django_assert_num_queries(9):
        client.get("/batch/tasks")
    make_batch(operator, 40)
    finish(*[SUCCEEDED] * 20)
    with django_assert_num_queries(9):
        assert len(client.get("/batch/tasks").json()["results"]) == 42


def test_pages_hold_each_task_once(client, operator, make_batch):
    make_batch(operator, 7)
    page = client.get("/batch/tasks", {"page_size": 3}).json()
    seen = [task["position"] for task in page["results"]]
    while page["next"]:
        page = client.get(page["next"]).json()
        seen += [task["position"] for task in page["results"]]
    assert seen == [6, 5, 4, 3, 2, 1, 0]


def test_priority_is_all_that_changes(client, task):
    body = client.patch(f"/batch/tasks/{task.pk}", {"priority": 9}).json()
    assert body["priority"] == 9
    for wrong in ({"priority": None}, {"priority": 11}, {"state": "succeeded"}, {}):
        assert client.patch(f"/batch/tasks/{task.pk}", wrong).status_code == 400, wrong
    assert Task.objects.get().priority == 9


def test_a_finished_task_has_no_priority_to_change(client, task, finish):
    finish(SUCCEEDED)
    assert client.patch(f"/batch/tasks/{task.pk}", {"priority": 9}).status_code == 409


def test_a_task_is_cancelled_and_retried(client, task):
    cancelled = client.post(f"/batch/tasks/{task.pk}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    assert client.post(f"/batch/tasks/{task.pk}/cancel/").status_code == 409
    retried = client.post(f"/batch/tasks/{task.pk}/retry")
    assert (retried.status_code, retried.json()["state"]) == (202, "queued")
    assert client.post(f"/batch/tasks/{task.pk}/retry").status_code == 409
    assert client.post(f"/batch/tasks/{task.pk}/retry", {"now": True}).status_code == 400


def test_a_log_is_read_on_from_where_it_was_left(client, task):
    now = timezone.now()
    lines = [
        LogLine(task=task, attempt=1 + n // 3, at=now, event="line", fields={"n": n})
        for n in range(6)
    ]
    LogLine.objects.bulk_create(lines)
    url = f"/batch/tasks/{task.pk}/log"
    page = client.get(url, {"page_size": 4}).json()
    assert list(page["results"][0]) == ["id", "attempt", "at", "event", "fields"]
    assert [line["fields"]["n"] for line in page["results"]] == [0, 1, 2, 3]
    page = client.get(page["next"]).json()
    assert [line["fields"]["n"] for line in page["results"]] == [4, 5]
    last = page["results"][-1]["id"]
    assert client.get(url, {"after": last}).json()["results"] == []
    LogLine.objects.create(task=task, attempt=2, at=now, event="more")
    assert [line["event"] for line in client.get(url, {"after": last}).json()["results"]] == [
        "more"
    ]
    assert len(client.get(url, {"attempt": 1}).json()["results"]) == 3
    for wrong in ("after=x", "attempt=1e5", "after=1.5", "attempt=" + "9" * 5000, "nothing=1"):
        assert client.get(f"{url}?{wrong}").status_code == 400, wrong[:20]
    assert client.get(url, {"after": 10**30}).json()["results"] == []


def test_a_file_is_the_newest_of_its_name_unless_an_attempt_is_named(client, task):
    kept = [keep(task, 1, b"old"), keep(task, 2, b"new")]
    url = f"/batch/tasks/{task.pk}/artefacts/report.xml"
    newest = client.get(url)
    assert b"".join(newest.streaming_content) == b"new"
    assert newest.headers["Content-Disposition"] == 'attachment; filename="report.xml"'
    assert newest.headers["X-Content-Type-Options"] == "nosniff"
    assert newest.headers["Content-Type"] == "application/xml"
    first = client.get(url, {"attempt": 1}, headers={"accept": "image/png"})
    assert b"".join(first.streaming_content) == b"old"
    assert client.get(url, {"attempt": 3}).status_code == 404
    assert client.get(url, {"attempt": "x"}).status_code == 400
    for artefact in kept:
        artefact.file.delete()


def test_a_file_that_is_not_there_is_a_problem(client, task):
    artefact = keep(task, 1, b"gone")
    Path(artefact.file.path).unlink()
    for name in ("report.xml", "other.xml", "..%2f..%2fetc%2fpasswd", "a" * 101):
        response = client.get(f"/batch/tasks/{task.pk}/artefacts/{name}")
        assert response.status_code == 404
        assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("call", ["", "/log", "/artefacts/x", "/retry", "/cancel"])
def test_a_task_nobody_has_is_not_found(client, call):
    url = f"/batch/tasks/{uuid.uuid4()}{call}"
    method = client.post if call in {"/retry", "/cancel"} else client.get
    assert method(url).status_code == 404

"""Queues, workspaces, results and figures over REST."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from batches import operations
from batches.api.stats import percentiles
from batches.exports import tabular
from batches.models import Queue, Task, Worker, Workspace
from batches.states import AttemptOutcome
from batches.submission import Item

pytestmark = pytest.mark.django_db

SUCCEEDED, REJECTED, ERROR = (
    AttemptOutcome.SUCCEEDED,
    AttemptOutcome.REJECTED,
    AttemptOutcome.ERROR,
)


@pytest.fixture
def client(client_of, admin):
    return client_of(admin)


def test_a_queue_shows_how_deep_it_is(client, operator, make_batch, start):
    make_batch(operator, 4)
    make_batch(operator, 2, queue="tests", priority=1)
    start(3)
    queues = {queue["name"]: queue for queue in client.get("/batch/queues").json()["results"]}
    assert len(queues) == 7
    assert queues["default"] == {
        "name": "default", "priority": 5, "paused": False, "concurrency_limit": None,
        "rate_limit": None, "depth": 1, "running": 3,
    }  # fmt: skip
    assert client.get("/batch/queues/tests").json()["depth"] == 2


def test_all_queues_cost_one_count(client, operator, make_batch, django_assert_num_queries):
    make_batch(operator, 4)
    # Token 2, permissions 2, queues, depths.
    with django_assert_num_queries(6):
        client.get("/batch/queues")


def test_a_queue_is_changed_live(client, operator, make_batch):
    make_batch(operator, 2)
    change = {"priority": 9, "paused": True, "concurrency_limit": 3, "rate_limit": 60}
    body = client.patch("/batch/queues/default", change).json()
    assert {name: body[name] for name in change} == change
    assert set(Task.objects.values_list("priority", flat=True)) == {9}
    body = client.patch(
        "/batch/queues/default/", {"paused": False, "concurrency_limit": None, "rate_limit": None}
    ).json()
    assert (body["paused"], body["concurrency_limit"], body["rate_limit"]) == (False, None, None)


@pytest.mark.parametrize(
    "change",
    [{"name": "x"}, {"priority": None}, {"concurrency_limit": 0}, {"paused": "no"}, {"depth": 0}],
    ids=str,
)
def test_what_a_queue_does_not_have_cannot_be_changed(client, change):
    response = client.patch("/batch/queues/default", change)
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] in change
    assert Queue.objects.get(pk="default").priority == 5


def test_a_workspace_is_made_changed_and_removed(client, tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    made = client.post(
        "/batch/workspaces",
        {
            "name": "project",
            "path": str(folder),
            "environment": {"variables": {"LEVEL": "3"}},
            "groups": ["viewer"],
        },
    )
    assert made.status_code == 201, made.content
    address = made.headers["Location"]
    body = client.get(address).json()
    assert (body["name"], body["path"], body["groups"]) == ("project", str(folder), ["viewer"])
    assert body["environment"] == {"virtualenv": "", "path": [], "variables": {"LEVEL": "3"}}
    changed = client.patch(address, {"groups": [], "environment": {"variables": {}}}).json()
    assert (changed["groups"], changed["environment"]["variables"]) == ([], {})
    assert client.delete(address).status_code == 204
    assert client.get(address).status_code == 404


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"name": "Capital", "path": "{}"}, "name"),
        ({"name": "a/b", "path": "{}"}, "name"),
        ({"path": "{}"}, "name"),
        ({"name": "red", "path": "{}"}, "name"),
        ({"name": "x"}, "path"),
        ({"name": "x", "path": "relative"}, "path"),
        ({"name": "x", "path": "/nowhere/at/all"}, "path"),
        ({"name": "x", "path": "~nobody-of-that-name/x"}, "path"),
        ({"name": "x", "path": "{}", "groups": ["ghosts"]}, "groups"),
        ({"name": "x", "path": "{}", "environment": {"PATH": "/"}}, "environment.PATH"),
        ({"name": "x", "path": "{}", "environment": {"path": "/bin"}}, "environment.path"),
        (
            {"name": "x", "path": "{}", "environment": {"variables": {"A": 1}}},
            "environment.variables.A",
        ),
        (
            {"name": "x", "path": "{}", "environment": {"virtualenv": "/" + "v" * 999}},
            "environment.virtualenv",
        ),
        ({"name": "x", "path": "{}", "marker": "1"}, "marker"),
    ],
    ids=str,
)
def test_the_wrong_field_of_a_workspace_is_named(client, red, tmp_path_factory, body, named):
    if body.get("path") == "{}":
        body = body | {"path": str(tmp_path_factory.mktemp("space"))}
    response = client.post("/batch/workspaces", body)
    assert response.status_code == 400
    assert named in [error["field"] for error in response.json()["errors"]]
    assert Workspace.objects.count() == 1


def test_a_workspace_with_batches_stays(client, operator, make_batch, red):
    make_batch(operator, workspace="red")
    assert client.delete("/batch/workspaces/red").status_code == 409


def test_values_of_variables_are_for_those_who_set_them(client, client_of, viewer, red):
    Workspace.objects.update(
        environment={"virtualenv": "", "path": [], "variables": {"API_KEY": "hunter2"}}
    )
    assert b"hunter2" in client.get("/batch/workspaces/red").content
    for address in ("/batch/workspaces", "/batch/workspaces/red"):
        for form in ("json", "api"):
            content = client_of(viewer).get(address, {"format": form}).content
            assert b"API_KEY" in content
            assert b"hunter2" not in content


def test_a_page_of_workspaces_costs_the_same(client, make_workspace, django_assert_num_queries):
    make_workspace("w0", "red team")
    # Token 2, permissions 2, workspaces, groups.
    with django_assert_num_queries(6):
        client.get("/batch/workspaces")
    for number in range(1, 9):
        make_workspace(f"w{number}", "red team")
    with django_assert_num_queries(6):
        assert len(client.get("/batch/workspaces").json()["results"]) == 9


def lines_of(response: Any) -> str:
    assert response.status_code == 200
    return b"".join(response.streaming_content).decode()


def test_results_are_json_lines_in_submission_order(
    client, operator, make_batch, finish, monkeypatch, django_assert_num_queries
):
    monkeypatch.setattr(tabular, "PAGE", 3)
    items = [Item({"n": n}, id=f"t{n}", priority=n) for n in range(7)]
    batch = make_batch(operator, items=items)
    finish(*[SUCCEEDED] * 6, result={"x": "é \u2028"})
    response = client.get(f"/batch/{batch.pk}/results")
    assert response.headers["Content-Type"] == "application/x-ndjson; charset=utf-8"
    # Pages of 3, 3 and 1 rows, and the one that shows there is no more.
    with django_assert_num_queries(4):
        rows = [json.loads(line) for line in lines_of(response).splitlines()]
    assert [row["custom_id"] for row in rows] == [f"t{n}" for n in range(7)]
    assert [row["state"] for row in rows] == ["queued", *["succeeded"] * 6]
    assert rows[6]["result"] == {"x": "é \u2028"}


def test_results_are_csv_if_asked_for(client, operator, make_batch, finish):
    batch = make_batch(operator, items=[Item({}, id="=cmd()"), Item({}, id='a "b"\nc')])
    finish(REJECTED, SUCCEEDED, result={"found": [1, "x,y"]}, error="-1 is wrong")
    for ask in ({"data": {"format": "csv"}}, {"headers": {"accept": "text/csv"}}):
        text = lines_of(client.get(f"/batch/{batch.pk}/results", **ask))
        first, second = csv.DictReader(io.StringIO(text, newline=""))
        assert (first["custom_id"], second["custom_id"]) == ("'=cmd()", 'a "b"\nc')
        assert json.loads(first["result"]) == {"found": [1, "x,y"]}
        assert (first["state"], first["failure"], first["error"]) == (
            "failed", "rejected", "'-1 is wrong",
        )  # fmt: skip


def test_stats_tell_what_there_is(client, operator, make_batch, start, finish):
    done = make_batch(operator, 3, kind="append", max_attempts=1, priority=9)
    finish(SUCCEEDED, REJECTED, ERROR)
    make_batch(operator, 4, queue="tests")
    finish(SUCCEEDED)
    start(1)
    body = client.get("/batch/stats").json()
    assert body["totals"] == {
        "state": {"queued": 2, "running": 1, "succeeded": 2, "failed": 2, "cancelled": 0},
        "kind": {
            "append": {"succeeded": 1, "failed": 2, "cancelled": 0},
            "noop": {"queued": 2, "running": 1, "succeeded": 1},
        },
        "queue": {
            "default": {"succeeded": 1, "failed": 2, "cancelled": 0},
            "tests": {"queued": 2, "running": 1, "succeeded": 1},
        },
    }
    assert done.total == 3
    assert sum(minute["succeeded"] for minute in body["throughput"]) == 2
    assert sum(minute["failed"] for minute in body["throughput"]) == 2
    at = timezone.datetime.fromisoformat(body["throughput"][-1]["minute"])
    assert timedelta(0) <= timezone.now() - at < timedelta(minutes=2)
    assert body["times"]["sample"] == 4
    assert set(body["times"]["run"]) == {"p50", "p90", "p99"}


def test_stats_of_nothing_are_empty(client):
    body = client.get("/batch/stats").json()
    assert body["totals"]["state"] == dict.fromkeys(
        ("queued", "running", "succeeded", "failed", "cancelled"), 0
    )
    assert body["throughput"] == []
    assert body["times"] == {"sample": 0, "wait": None, "run": None}


def test_stats_list_workers_that_were_heard_of_lately(client):
    def work(name: str, **fields: Any) -> Worker:
        return Worker.objects.create(
            name=name, backend="database", host="h", pid=1, slots=2, **fields
        )

    work("alive", running=1)
    silent = work("silent")
    work("stopped", state="stopped")
    Worker.objects.filter(pk=silent.pk).update(seen_at=timezone.now() - timedelta(minutes=5))
    [worker] = client.get("/batch/stats").json()["workers"]
    assert (worker["name"], worker["slots"], worker["running"]) == ("alive", 2, 1)


def test_stats_cost_the_same_however_much_there_is(
    client, operator, make_batch, finish, django_assert_num_queries
):
    make_batch(operator, 1)
    # Token 2, permissions 2, totals 3, throughput, times, workers, queues, depths.
    with django_assert_num_queries(12):
        client.get("/batch/stats")
    for _ in range(10):
        make_batch(operator, 1)
    finish(*[SUCCEEDED] * 8)
    with django_assert_num_queries(12):
        client.get("/batch/stats")


def test_percentiles_are_those_of_the_sample():
    hundred = [float(n) for n in range(1, 102)]
    assert percentiles(hundred) == {"p50": 51.0, "p90": 91.0, "p99": 100.0}
    assert percentiles([2.0]) == {"p50": 2.0, "p90": 2.0, "p99": 2.0}


def test_a_retried_batch_counts_its_tasks_again(client, operator, make_batch, finish):
    batch = make_batch(operator, 1, max_attempts=1)
    finish(ERROR)
    operations.retry_batch(batch)
    assert client.get("/batch/stats").json()["totals"]["state"]["failed"] == 0
    assert client.get(f"/batch/{batch.pk}").json()["status"] == "running"


def test_a_path_in_the_workspace_list_is_where_it_was_put(client, red):
    [found] = client.get("/batch/workspaces").json()["results"]
    assert Path(found["path"]) == Path(red.path)

"""Batches over REST: lists and their cost, what is shown, change, cancel and retry."""

from __future__ import annotations

import pytest
from django.utils import timezone

from batches import operations
from batches.models import Batch, Task
from batches.states import AttemptOutcome
from batches.submission import Item

pytestmark = pytest.mark.django_db

SUCCEEDED, REJECTED, ERROR = (
    AttemptOutcome.SUCCEEDED,
    AttemptOutcome.REJECTED,
    AttemptOutcome.ERROR,
)


@pytest.fixture
def client(client_of, operator):
    return client_of(operator)


def names(response):
    assert response.status_code == 200, response.content
    return [batch["name"] for batch in response.json()["results"]]


def test_the_status_says_where_a_batch_is(client, operator, make_batch, start, finish):
    running = make_batch(operator, name="running")
    start(1)
    failed = make_batch(operator, 1, name="failed", priority=9)
    finish(REJECTED)
    make_batch(operator, 1, name="completed", priority=9)
    finish(SUCCEEDED)
    cancelled = make_batch(operator, name="cancelled")
    operations.cancel_batch(cancelled)
    paused = make_batch(operator, name="paused")
    operations.pause_batch(paused)
    make_batch(operator, name="queued")
    for status in ("queued", "running", "paused", "cancelled", "failed", "completed"):
        assert names(client.get("/batch", {"status": status})) == [status]
    assert names(client.get("/batch?status=failed&status=running")) == ["failed", "running"]
    assert client.get(f"/batch/{running.pk}").json()["status"] == "running"
    assert client.get(f"/batch/{failed.pk}").json()["status"] == "failed"


def test_progress_is_counted(client, operator, make_batch, finish, start):
    batch = make_batch(operator, 5)
    finish(SUCCEEDED, REJECTED)
    start(1)
    Batch.objects.update(started_at=timezone.now() - timezone.timedelta(seconds=10))
    progress = client.get(f"/batch/{batch.pk}").json()["progress"]
    assert progress["counts"] == {
        "queued": 2, "running": 1, "succeeded": 1, "failed": 1, "cancelled": 0,
    }  # fmt: skip
    assert progress["percentage"] == 40.0
    assert progress["rate"] == pytest.approx(0.2, rel=0.05)
    assert progress["seconds_left"] == pytest.approx(15, rel=0.05)


def test_a_finished_batch_shows_its_summary(client, operator, make_batch, finish):
    batch = make_batch(operator, 2)
    finish(SUCCEEDED, REJECTED)
    body = client.get(f"/batch/{batch.pk}").json()
    assert body["progress"]["counts"]["failed"] == 1
    assert body["progress"]["percentage"] == 100.0
    assert body["progress"]["seconds_left"] == 0
    assert body["finished_at"] is not None


def test_a_list_is_filtered(client, operator, make_batch, red, settings):
    make_batch(operator, name="alpha", labels=("night", 'a "quoted" one'), workspace="red")
    make_batch(operator, name="beta", labels=("nightly",), kind="append")
    ask = lambda **wanted: names(client.get("/batch", wanted))  # noqa: E731
    assert ask() == ["beta", "alpha"]
    assert ask(kind="append") == ["beta"]
    assert ask(label="night") == ["alpha"]
    assert ask(label="quoted") == []
    assert ask(label='a "quoted" one') == ["alpha"]
    assert ask(text="ALPH") == ["alpha"]
    assert ask(text="%") == []
    assert ask(text=str(Batch.objects.get(name="beta").pk)[-12:]) == ["beta"]
    assert ask(backend="database") == ["beta", "alpha"]
    assert ask(backend="celery") == []
    assert ask(workspace="red") == ["alpha"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("status=done", "status"),
        ("kind=nothing", "kind"),
        ("backend=kafka", "backend"),
        ("stauts=failed", "stauts"),
        ("text=%00", "text"),
        ("label=%00", "label"),
        ("cursor=abc", "cursor"),
        ("cursor=%ff", "cursor"),
        ("cursor=cD1hYmM%3D", "cursor"),  # p=abc
        ("cursor=bz0tMQ%3D%3D", "cursor"),  # o=-1
        ("page_size=0", "page_size"),
        ("page_size=501", "page_size"),
        ("page_size=ten", "page_size"),
    ],
)
def test_a_query_that_means_nothing_is_refused(client, query, named):
    response = client.get(f"/batch?{query}")
    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [named]


def test_a_cursor_beyond_every_number_finds_nothing(client, operator, make_batch):
    make_batch(operator)
    position = "cD0tOTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"  # p=-99999999999999999999999
    assert names(client.get("/batch", {"cursor": position})) == []


def test_pages_hold_each_batch_once_while_new_ones_come(client, operator, make_batch):
    for number in range(5):
        make_batch(operator, 1, name=str(number))
    page = client.get("/batch", {"page_size": 2}).json()
    seen = [batch["name"] for batch in page["results"]]
    make_batch(operator, 1, name="late")
    while page["next"]:
        page = client.get(page["next"]).json()
        seen += [batch["name"] for batch in page["results"]]
    assert seen == ["4", "3", "2", "1", "0"]
    assert page["previous"]


def test_a_page_costs_the_same_with_one_batch_or_many(
    client, operator, make_batch, finish, django_assert_num_queries
):
    make_batch(operator, 1)
    finish(SUCCEEDED)
    make_batch(operator, 1)
    # Two for the token, two for permissions, the page, its «after», two to count open batches.
    with django_assert_num_queries(8):
        client.get("/batch")
    for _ in range(20):
        make_batch(operator, 1)
    with django_assert_num_queries(8):
        assert len(client.get("/batch").json()["results"]) == 22


def test_tasks_of_a_batch_come_in_submission_order(
    client, operator, make_batch, django_assert_num_queries
):
    items = [Item({"n": n}, id=f"t{n}", priority=n % 11) for n in range(30)]
    batch = make_batch(operator, items=items)
    page = client.get(f"/batch/{batch.pk}/tasks", {"page_size": 20}).json()
    seen = [task["custom_id"] for task in page["results"]]
    # Token 2, permissions 2, the batch and its «after», tasks, and 4 of what belongs to them.
    with django_assert_num_queries(11):
        page = client.get(page["next"]).json()
    seen += [task["custom_id"] for task in page["results"]]
    assert seen == [f"t{n}" for n in range(30)]
    assert page["next"] is None


def test_tasks_of_a_batch_are_filtered(client, operator, make_batch, finish):
    batch = make_batch(operator, items=[Item({}, id="one"), Item({}, id="two"), Item({}, id="3")])
    finish(REJECTED, SUCCEEDED)
    ask = lambda query: [  # noqa: E731
        task["custom_id"]
        for task in client.get(f"/batch/{batch.pk}/tasks?{query}").json()["results"]
    ]
    assert ask("state=failed") == ["one"]
    assert ask("state=failed&state=queued") == ["one", "3"]
    assert ask("failure=rejected") == ["one"]
    assert ask("failure=lost") == []
    assert ask("custom_id=two") == ["two"]
    assert ask("text=TW") == ["two"]


def test_priority_parallel_and_pause_change_live(client, operator, make_batch):
    batch = make_batch(operator, 2)
    change = {"priority": 9, "parallel": 1, "paused": True}
    body = client.patch(f"/batch/{batch.pk}", change).json()
    assert {name: body[name] for name in change} == change
    assert body["status"] == "paused"
    assert set(Task.objects.values_list("priority", flat=True)) == {9}
    body = client.patch(
        f"/batch/{batch.pk}/", {"priority": None, "parallel": None, "paused": False}
    ).json()
    assert (body["priority"], body["parallel"], body["paused"]) == (None, None, False)
    assert set(Task.objects.values_list("priority", flat=True)) == {5}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"state": "done"},
        {"status": "completed"},
        {"paused": "yes"},
        {"paused": 1},
        {"paused": None},
        {"priority": 11},
        {"priority": "high"},
        {"parallel": 0},
        {"priority": 1, "summary": {}},
    ],
    ids=str,
)
def test_nothing_else_can_be_changed(client, operator, make_batch, change):
    batch = make_batch(operator)
    before = Batch.objects.values().get()
    response = client.patch(f"/batch/{batch.pk}", change)
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] in change
    assert Batch.objects.values().get() == before


def test_a_change_that_cannot_be_made_as_a_whole_changes_nothing(
    client, operator, make_batch, finish
):
    batch = make_batch(operator, 1)
    finish(SUCCEEDED)
    response = client.patch(f"/batch/{batch.pk}", {"priority": 9, "paused": True})
    assert response.status_code == 409
    assert Batch.objects.get().priority is None


def test_delete_cancels(client, operator, make_batch):
    batch = make_batch(operator)
    response = client.delete(f"/batch/{batch.pk}")
    assert (response.status_code, response.json()["status"]) == (202, "cancelled")
    assert response.json()["progress"]["counts"]["cancelled"] == 3
    again = client.delete(f"/batch/{batch.pk}")
    assert (again.status_code, again.json()["title"]) == (409, "Conflict")
    assert Batch.objects.filter(pk=batch.pk).exists()


def test_a_running_task_is_asked_to_stop(client, operator, make_batch, start):
    batch = make_batch(operator, 2)
    start(1)
    body = client.delete(f"/batch/{batch.pk}").json()
    assert body["status"] == "running"
    assert body["progress"]["counts"] == {
        "queued": 0, "running": 1, "succeeded": 0, "failed": 0, "cancelled": 1,
    }  # fmt: skip
    assert client.post(f"/batch/{batch.pk}/retry").status_code == 409


def test_the_failed_are_queued_again(client, operator, make_batch, finish):
    batch = make_batch(operator, 3, max_attempts=1)
    finish(SUCCEEDED, REJECTED, ERROR)
    response = client.post(f"/batch/{batch.pk}/retry", {"failure": ["error"]})
    assert (response.status_code, response.json()["retried"]) == (202, 1)
    assert response.json()["batch"]["progress"]["counts"]["failed"] == 1
    rejected = Task.objects.get(failure="rejected")
    response = client.post(f"/batch/{batch.pk}/retry/", {"ids": [str(rejected.pk)]})
    assert response.json()["retried"] == 1
    assert client.post(f"/batch/{batch.pk}/retry").json()["retried"] == 0


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"failure": ["boredom"]}, "failure[0]"),
        ({"failure": "error"}, "failure"),
        ({"failure": []}, "failure"),
        ({"ids": ["x"]}, "ids[0]"),
        ({"force": True}, "force"),
    ],
    ids=str,
)
def test_a_retry_says_what_it_does_not_know(client, operator, make_batch, body, named):
    response = client.post(f"/batch/{make_batch(operator).pk}/retry", body)
    assert [error["field"] for error in response.json()["errors"]] == [named]


def test_a_batch_that_is_still_being_stored_is_not_there(client, operator, make_batch):
    batch = make_batch(operator)
    Batch.objects.update(sealed_at=None)
    assert names(client.get("/batch")) == []
    assert client.get(f"/batch/{batch.pk}").status_code == 404
    assert client.get("/batch/tasks").json()["results"] == []

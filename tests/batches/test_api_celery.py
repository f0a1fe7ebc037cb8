"""The endpoints that speak Celery's words, on the rows."""

from __future__ import annotations

import pytest
from django.db.models.functions import Now

from batches.celery_words import celery_status
from batches.models import Batch, Task
from batches.states import TaskState

pytestmark = pytest.mark.django_db


@pytest.fixture
def group(broker, make_batch, operator) -> Batch:
    return make_batch(operator, 3, backend="celery")


def test_a_batch_is_a_group(broker, client_of, operator):
    answer = client_of(operator).post("/batch/celery/noop", {"items": [{}, {}]})
    told = answer.json()
    assert answer.status_code == 202
    assert (told["backend"], told["total_tasks"]) == ("celery", 2)
    assert (told["status"], told["dispatch"]) == ("queued", "pending")
    assert told["monitor_url"] == answer.headers["Location"]
    followed = client_of(operator).get(told["monitor_url"]).json()
    assert followed["group_id"] == told["group_id"] == str(Batch.objects.get().pk)
    assert [one["status"] for one in followed["results"]] == ["PENDING", "PENDING"]


def test_without_a_broker_it_says_what_to_set(client_of, operator, caplog):
    answer = client_of(operator).post("/batch/celery/noop", {"items": [{}]})
    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "CELERY_BROKER_URL" in answer.json()["detail"]
    assert not Batch.objects.exists()
    assert not any(record.exc_info for record in caplog.records), "it is no fault of the program"


def test_another_backend_is_refused_there(broker, client_of, operator):
    answer = client_of(operator).post("/batch/celery/noop", {"items": [{}], "backend": "database"})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "backend"


def test_celery_is_the_usual_backend_where_there_is_a_broker(broker, client_of, operator):
    client = client_of(operator)
    usual = client.post("/batch/noop", {"items": [{}]}).json()
    chosen = client.post("/batch/noop", {"items": [{}], "backend": "database"}).json()
    assert (usual["backend"], usual["dispatch"]) == ("celery", "pending")
    assert (chosen["backend"], chosen["dispatch"]) == ("database", None)


def test_a_batch_is_sent_once_a_worker_was_told(group, client_of, operator):
    Task.objects.filter(position=0).update(dispatched_at=Now())
    [listed] = client_of(operator).get("/batch").json()["results"]
    assert listed["dispatch"] == "sent"


def test_the_same_key_is_the_same_group(broker, client_of, operator):
    client = client_of(operator)
    first, second = (
        client.post("/batch/celery/noop", {"items": [{}]}, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    )
    assert first.json()["group_id"] == second.json()["group_id"]
    assert second.headers["Idempotency-Replayed"] == "true"


def test_json_lines_are_a_group_too(broker, client_of, operator):
    answer = client_of(operator).generic(
        "POST", "/batch/celery/noop", b"{}\n{}\n{}\n", content_type="application/x-ndjson"
    )
    assert answer.json()["total_tasks"] == 2


@pytest.mark.parametrize(
    ("columns", "status", "ready", "successful"),
    [
        ({}, "PENDING", False, False),
        ({"state": "queued", "attempt": 1}, "RETRY", False, False),
        ({"state": "running", "attempt": 1, "leased_until": Now()}, "STARTED", False, False),
        ({"state": "succeeded", "attempt": 1}, "SUCCESS", True, True),
        ({"state": "failed", "failure": "rejected", "attempt": 1}, "FAILURE", True, False),
        ({"state": "cancelled"}, "REVOKED", True, False),
    ],
)
def test_a_state_has_its_word(group, client_of, operator, columns, status, ready, successful):
    task = group.tasks.get(position=0)
    Task.objects.filter(pk=task.pk).update(**columns, error="why")
    told = client_of(operator).get(f"/batch/celery/task/{task.pk}").json()
    assert (told["task_id"], told["status"]) == (str(task.pk), status)
    assert (told["ready"], told["successful"], told["error"]) == (ready, successful, "why")
    assert told["meta"]["name"] == "process_noop"
    assert told["meta"]["group_id"] == str(group.pk)


def test_every_state_has_a_word():
    assert {celery_status(state, 1) for state in TaskState} == {
        "RETRY", "STARTED", "SUCCESS", "FAILURE", "REVOKED",
    }  # fmt: skip


def test_a_group_is_counted_and_paged(group, client_of, operator, finish):
    Task.objects.filter(position=0).update(state="succeeded")
    client = client_of(operator)
    told = client.get(f"/batch/celery/group/{group.pk}?page_size=2").json()
    assert (told["total"], told["completed"], told["successful"], told["failed"]) == (3, 1, 1, 0)
    assert (told["progress"], told["ready"], len(told["results"])) == (33.3, False, 2)
    rest = client.get(told["next"]).json()
    assert [one["meta"]["custom_id"] for one in told["results"] + rest["results"]] == [
        "0", "1", "2",
    ]  # fmt: skip


def test_batches_of_the_other_backend_are_no_groups(make_batch, client_of, operator):
    batch = make_batch(operator, 1)
    client = client_of(operator)
    assert client.get(f"/batch/celery/group/{batch.pk}").status_code == 404
    assert client.get(f"/batch/celery/task/{batch.tasks.get().pk}").status_code == 404

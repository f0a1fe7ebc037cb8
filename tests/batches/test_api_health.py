"""Ready says no only while work stands still, and why."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.functions import Now

from batches.models import Batch, Queue, Worker

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]


@pytest.fixture
def client(client_of, viewer):
    return client_of(viewer)


@pytest.fixture
def backlog(operator, make_batch):
    """Two tasks that wait for five minutes."""
    batch = make_batch(operator, 2)
    Batch.objects.update(sealed_at=Now() - timedelta(minutes=5))
    return batch


def work(*, seen: float = 0, claimed: float | None = None, **fields: Any) -> None:
    """A worker that was heard of, and claimed, so many seconds ago."""
    row = Worker.objects.create(name="w1", backend="database", host="h", pid=1, slots=2, **fields)
    times = {"seen_at": Now() - timedelta(seconds=seen)}
    if claimed is not None:
        times["claimed_at"] = Now() - timedelta(seconds=claimed)
    Worker.objects.filter(pk=row.pk).update(**times)


def test_an_idle_installation_is_ready(client):
    for address in ("/health/ready", "/health/ready/"):
        response = client.get(address)
        assert (response.status_code, response.json()) == (200, {"status": "ready"})


def test_tasks_that_nobody_claims_are_a_reason(client, backlog):
    response = client.get("/health/ready")
    assert response.status_code == 503
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    [reason] = body["errors"]
    assert reason["field"] == "queues.default"
    assert reason["message"].startswith("Tasks have waited in default for 30")
    assert reason["message"].endswith("s, and no worker is live.")
    assert body["detail"] == reason["message"]


@pytest.mark.parametrize(
    ("worker", "status"),
    [
        ({"claimed": 5}, 200),
        ({"claimed": 600, "running": 2}, 200),
        ({"claimed": 600}, 503),
        ({}, 503),
        ({"claimed": 5, "seen": 60}, 503),
        ({"claimed": 5, "state": "stopped"}, 503),
        ({"running": 2, "seen": 60}, 503),
    ],
    ids=str,
)
def test_a_live_worker_must_claim_or_run(client, backlog, worker, status):
    work(**worker)
    response = client.get("/health/ready")
    assert response.status_code == status
    assert (b"live workers claim nothing" in response.content) == (
        status == 503 and "seen" not in worker and "state" not in worker
    )


def test_how_long_is_too_long_is_a_setting(client, backlog, settings):
    settings.READY_BACKLOG_SECONDS = 400
    assert client.get("/health/ready").status_code == 200
    settings.READY_BACKLOG_SECONDS = 200
    assert client.get("/health/ready").status_code == 503


def test_what_is_paused_is_not_late(client, backlog):
    Queue.objects.filter(name="default").update(paused_at=Now())
    assert client.get("/health/ready").status_code == 200


def test_every_late_queue_is_named(client, backlog, operator, make_batch):
    make_batch(operator, 1, queue="tests")
    make_batch(operator, 1, queue="validation")
    Batch.objects.filter(queue="tests").update(sealed_at=Now() - timedelta(minutes=5))
    errors = client.get("/health/ready").json()["errors"]
    assert [error["field"] for error in errors] == ["queues.default", "queues.tests"]


def test_a_missing_migration_is_a_reason(client, backlog):
    MigrationRecorder(connection).record_unapplied("batches", "0002_queues_groups_and_tuning")
    response = client.get("/health/ready")
    assert response.status_code == 503
    [reason] = response.json()["errors"]
    assert reason["field"] == "migrations"
    assert "batches.0002_queues_groups_and_tuning" in reason["message"]


def test_a_migration_of_a_later_version_is_none(client):
    MigrationRecorder(connection).record_applied("batches", "9999_later")
    assert client.get("/health/ready").status_code == 200


def test_ready_costs_the_same_however_much_waits(
    client, backlog, operator, make_batch, django_assert_num_queries
):
    client.get("/health/ready")
    # Token 2, permissions 2, migrations 2, waiting, workers 2.
    with django_assert_num_queries(9):
        client.get("/health/ready")
    for queue in ("tests", "validation", "default"):
        make_batch(operator, 5, queue=queue)
    with django_assert_num_queries(9):
        client.get("/health/ready")

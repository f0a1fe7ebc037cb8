"""Brokers that are away, hang, or lose what they were told."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django_celery_results.models import TaskResult

from batches.models import Batch
from batches.states import TaskState
from tests.brokers import Broker
from tests.processes.fleet import (
    Fleet,
    WorkerProcess,
    done,
    outcomes,
    submit,
    task_of,
    until,
)

pytestmark = [pytest.mark.backends("redis", "rabbitmq"), pytest.mark.long]


def test_a_submission_does_not_wait_for_its_broker(
    fleet: Fleet, broker: Broker, client: Client
) -> None:
    client.force_login(User.objects.create_superuser("tester"))

    def submitted() -> UUID:
        began = time.monotonic()
        told = client.post(
            "/batch/celery/noop", {"items": [{}] * 20}, content_type="application/json"
        ).json()
        assert time.monotonic() - began < 2.0
        assert told["dispatch"] == "pending"
        return UUID(told["group_id"])

    broker.freeze()
    hung = submitted()
    broker.thaw()
    broker.kill()
    away = submitted()
    broker.start()
    fleet.start(slots=2)
    for group in (hung, away):
        batch = done(Batch.objects.get(pk=group), within=60)
        assert batch.summary["succeeded"] == 20


def test_a_connection_that_broke_meanwhile_costs_nothing(fleet: Fleet, broker: Broker) -> None:
    assert not submit("noop", {}).unsent
    broker.restart()
    assert not submit("noop", {}, priority=9).unsent


def test_messages_that_a_broker_lost_are_sent_again(
    fleet: Fleet, broker: Broker, tmp_path: Path
) -> None:
    fleet.start(slots=1)
    gate = {"gate": str(tmp_path / "gate")}
    busy = submit("linger", gate)
    until(lambda: task_of(busy).state == TaskState.RUNNING, what="the slot is taken")
    batch = submit("noop", *({} for _ in range(20)))
    until(lambda: task_of(batch).dispatched_at, what="a worker was told of it")
    broker.restart()
    (tmp_path / "gate").touch()
    began = time.monotonic()
    assert done(batch, within=60).summary["succeeded"] == 20
    assert time.monotonic() - began < 60
    assert outcomes(task_of(done(busy))) == ["succeeded"]


def test_database_workers_stand_in_where_that_is_wanted(
    fleet: Fleet, broker: Broker, tmp_path: Path
) -> None:
    broker.kill()
    batch = submit("noop", *({} for _ in range(10)))
    assert batch.unsent
    stands_in = WorkerProcess(
        tmp_path, 9, 2, [], CELERY_BROKER_URL=fleet.broker_url, CELERY_FALLBACK="true"
    )
    fleet.workers.append(stands_in)
    assert done(batch, within=30).summary["succeeded"] == 10
    assert set(batch.tasks.values_list("worker", flat=True)) == {stands_in.name}
    broker.start()
    until(lambda: "the broker is back" in stands_in.log, what="it noticed")
    later = submit("noop", {})
    done(submit("noop", {}, backend="database"))
    assert task_of(later).attempt == 0
    fleet.start(slots=1)
    done(later)
    until(
        lambda: TaskResult.objects.filter(status="SUCCESS").count() == 11,
        what="the records follow",
    )

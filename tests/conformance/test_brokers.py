"""Brokers that are away, hang, or lose what they were told."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.test import Client

from batches.models import Batch
from batches.states import TaskState
from tests.brokers import Broker
from tests.processes.fleet import Fleet, done, outcomes, submit, task_of, until

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

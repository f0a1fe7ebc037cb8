"""Brokers that are away, hang, or lose what they were told; and what only one of them has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from amqp.exceptions import PreconditionFailed
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django_celery_results.models import TaskResult
from kombu import Connection

from batches import dispatch
from batches.models import Batch, Worker
from batches.states import TaskState
from tests.brokers import Broker, RabbitMQ, Sentinel
from tests.conformance.conftest import point_to
from tests.processes.fleet import (
    Fleet,
    WorkerProcess,
    done,
    outcomes,
    pids,
    submit,
    task_of,
    until,
)

pytestmark = [pytest.mark.backends("redis", "rabbitmq"), pytest.mark.long]
SHIPPED = dispatch.NUDGE_SECONDS


def test_a_submission_does_not_wait_for_its_broker(
    fleet: Fleet, broker: Broker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "NUDGE_SECONDS", SHIPPED)
    client.force_login(User.objects.create_superuser("tester"))

    def answered() -> tuple[dict[str, Any], float]:
        began = time.monotonic()
        told = client.post(
            "/batch/celery/noop", {"items": [{}] * 20}, content_type="application/json"
        ).json()
        return told, time.monotonic() - began

    def submitted() -> UUID:
        told, seconds = answered()
        assert seconds - usual < 2.0  # what the broker delays
        assert told["dispatch"] == "pending"
        return UUID(told["group_id"])

    usual = min(answered()[1] for _ in range(2))
    broker.freeze()
    hung = submitted()
    broker.thaw()
    broker.stop()
    away = submitted()
    broker.start()
    fleet.start(slots=2)
    for group in (hung, away):
        batch = done(Batch.objects.get(pk=group))
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
    assert done(batch, within=60).summary["succeeded"] == 20  # as the guide promises
    assert outcomes(task_of(done(busy))) == ["succeeded"]


def test_database_workers_stand_in_where_that_is_wanted(
    fleet: Fleet, broker: Broker, tmp_path: Path
) -> None:
    broker.stop()
    batch = submit("noop", *({} for _ in range(10)))
    assert batch.unsent
    stands_in = WorkerProcess(
        tmp_path, 9, 2, [], CELERY_BROKER_URL=fleet.broker_url, CELERY_FALLBACK="true"
    )
    fleet.workers.append(stands_in)
    assert done(batch).summary["succeeded"] == 10
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


def kept_busy(tmp_path: Path) -> Batch:
    """A batch whose one task runs until the file ``gate`` is there."""
    batch = submit("linger", {"gate": str(tmp_path / "gate"), "pids": str(tmp_path / "pids")})
    pids(tmp_path / "pids")
    return batch


@pytest.mark.backends("sentinel")
def test_a_failover_loses_nothing(fleet: Fleet, broker: Sentinel, tmp_path: Path) -> None:
    fleet.start(slots=1)
    running = kept_busy(tmp_path)
    waiting = submit("noop", *({} for _ in range(5)))
    broker.fail_over()
    meanwhile = submit("noop", {})
    (tmp_path / "gate").touch()
    for batch in (running, waiting, meanwhile):
        assert done(batch).summary["succeeded"] == batch.total
    assert outcomes(task_of(running)) == ["succeeded"]


@pytest.mark.backends("rabbitmq")
def test_a_task_outlives_the_patience_of_its_broker(
    fleet: Fleet, broker: RabbitMQ, tmp_path: Path
) -> None:
    """RabbitMQ closes the channel of a worker that does not acknowledge in time."""
    limits = "application:set_env(rabbit, {}, {}), application:set_env(rabbit, {}, {})."
    before = limits.format("consumer_timeout", 1_800_000, "channel_tick_interval", 60_000)
    broker.evaluate(limits.format("consumer_timeout", 1500, "channel_tick_interval", 100))
    try:
        worker = fleet.start(slots=1)
        running = kept_busy(tmp_path)
        until(lambda: "PRECONDITION_FAILED" in worker.log, what="the channel is closed")
        (tmp_path / "gate").touch()
        assert outcomes(task_of(done(running))) == ["succeeded"]
        assert done(submit("noop", {}, {})).summary["succeeded"] == 2
    finally:
        broker.evaluate(before)


@pytest.fixture
def quorum(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A channel; its queues are deleted before and afterwards, as a change of their type asks."""
    from config.celery import queues

    with Connection(fleet.broker_url) as connection:
        channel = connection.channel()
        for queue in queues():
            channel.queue_delete(queue.name)
        monkeypatch.setattr(settings, "CELERY_QUORUM_QUEUES", True)
        point_to(fleet.broker_url, fleet.environment)
        yield channel
        fleet.close()  # or they would be declared again at once
        for queue in queues():
            connection.channel().queue_delete(queue.name)


@pytest.mark.backends("rabbitmq")
def test_quorum_queues_carry_the_same_work(fleet: Fleet, quorum: Any, tmp_path: Path) -> None:
    for _ in range(2):
        fleet.start(slots=1, up=False, CELERY_QUORUM_QUEUES="true", LEASE_SECONDS=2)
    for worker in fleet.workers:
        worker.wait_until_up()
    running = kept_busy(tmp_path)
    with pytest.raises(PreconditionFailed, match="x-queue-type"):
        quorum.queue_declare("default", durable=True, auto_delete=False)
    pid = Worker.objects.get(name=task_of(running).worker).pid
    next(worker for worker in fleet.workers if worker.pid == pid).kill()
    again = submit("misbehave", {"how": "flaky", "until": 2})
    many = submit("noop", *({} for _ in range(30)))
    (tmp_path / "gate").touch()
    for batch in (running, again, many):
        assert done(batch).summary["succeeded"] == batch.total
    assert outcomes(task_of(running)) == ["lost", "succeeded"]
    assert outcomes(task_of(again)) == ["error", "succeeded"]

"""Celery's tasks beside those that run rows."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from celery import Celery
from django.core.checks import run_checks
from django.db.models.functions import Now
from django_celery_beat.models import PeriodicTask
from django_celery_results.backends import DatabaseBackend
from django_celery_results.models import TaskResult

from batches import operations
from batches.checks import WORKER
from batches.consumers import celery_tasks
from batches.models import Batch, Task
from batches.registry import kind

pytestmark = pytest.mark.django_db


@pytest.fixture
def group(broker, make_batch, operator):
    return make_batch(operator, 3, backend="celery")


def test_a_stored_batch_is_dispatched_by_its_id(group, monkeypatch):
    called = []
    monkeypatch.setattr("batches.dispatch.dispatch", lambda: called.append(1))
    told = celery_tasks.dispatch_batch("noop", str(group.pk))
    assert (told, called) == ({"group_id": str(group.pk), "total": 3}, [1])


@pytest.mark.parametrize("call", ["dispatch_batch", "get_task_status", "get_group_status"])
def test_what_is_not_there_is_named(group, call):
    arguments = ("noop",) if call == "dispatch_batch" else ()
    missing = str(uuid4())
    with pytest.raises(LookupError, match=missing):
        getattr(celery_tasks, call)(*arguments, missing)


def test_a_task_and_its_group_are_told_as_json(group):
    Task.objects.filter(position=0).update(state="succeeded", attempt=1)
    task = group.tasks.get(position=0)
    told = celery_tasks.get_task_status(str(task.pk))
    assert (told["task_id"], told["status"]) == (str(task.pk), "SUCCESS")
    whole = celery_tasks.get_group_status(str(group.pk))
    assert (whole["completed"], whole["ready"], len(whole["results"])) == (1, False, 3)
    assert whole["results"][0] == told


def test_the_group_tasks_are_named_for_their_endpoints():
    names = {
        name: celery_tasks.group_task_name(kind(name)) for name in ("validation", "test", "mcp")
    }
    assert names == {
        "validation": "batch_validation",
        "test": "batch_tests",
        "mcp": "batch_mcp_operations",
    }


def test_beat_cleans_up_once_an_hour():
    task = PeriodicTask.objects.get(name="cleanup_old_results")
    assert (task.task, task.enabled, task.queue) == ("cleanup_old_results", True, "low_priority")
    assert (task.crontab.minute, task.crontab.hour) == ("17", "*")


@pytest.fixture
def results():
    """The result backend, as Celery makes it of the settings."""
    return DatabaseBackend(Celery(set_as_current=False), expires=timedelta(days=7))


def test_the_cleanup_deletes_old_batches_and_results(group, results, make_batch, operator):
    old, recent = (make_batch(operator, 1) for _ in range(2))
    for batch, days in ((old, 31), (recent, 29)):
        operations.cancel_batch(batch)
        Batch.objects.filter(pk=batch.pk).update(finished_at=Now() - timedelta(days=days))
    for task_id, days in (("old", 8), ("recent", 6)):
        TaskResult.objects.create(task_id=task_id)
        TaskResult.objects.filter(task_id=task_id).update(date_done=Now() - timedelta(days=days))

    assert celery_tasks.cleanup_old_results(results) == {"batches": 1}
    assert set(Batch.objects.values_list("pk", flat=True)) == {group.pk, recent.pk}
    assert [row.task_id for row in TaskResult.objects.all()] == ["recent"]


def said(settings, **values) -> set[str]:
    for name, value in values.items():
        setattr(settings, name, value)
    return {message.id for message in run_checks(tags=[WORKER])}


def test_quorum_queues_are_rabbitmqs(settings):
    redis = {"CELERY_BROKER_URL": "redis://h/0", "CELERY_QUORUM_QUEUES": True}
    assert "batches.E004" in said(settings, **redis)
    assert "batches.E004" not in said(settings, CELERY_BROKER_URL="amqp://h//")


def test_sqlite_keeps_celery_on_one_machine(settings):
    here = "batches.W001" in said(settings, CELERY_BROKER_URL="redis://h/0")
    assert here == settings.DATABASES["default"]["ENGINE"].endswith("sqlite3")

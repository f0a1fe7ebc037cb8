"""Celery's records of what ended without one of its workers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django_celery_results.models import TaskResult

from batches import mirror, operations
from batches.consumers.celery_record import CeleryRecord
from batches.models import Batch, Task
from batches.queue.claim import Claimed
from batches.queue.closing import follow_up
from batches.queue.settle import settle
from batches.queue.verdicts import Verdict
from batches.states import AttemptOutcome, BatchState
from tests.queueing import chain, take

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("broker")]


def end_with_record(claimed: Claimed, outcome: AttemptOutcome, **more: Any) -> None:
    """As a worker of Celery does."""
    record = CeleryRecord()
    record.of(claimed, "celery@here")
    follow_up(settle([Verdict(claimed.lease, outcome, **more)], record))


def status(task: Task) -> str | None:
    found = TaskResult.objects.filter(task_id=str(task.pk)).values_list("status", flat=True)
    return found.first()


def test_a_cancel_during_the_backoff_is_recorded_while_the_batch_goes_on(operator, make_batch):
    batch = make_batch(operator, 2, backend="celery")
    for claimed in take(backend="celery"):
        end_with_record(claimed, AttemptOutcome.ERROR, error="not yet", retry_in=60.0)
    cancelled, other = batch.tasks.order_by("position")
    assert [status(cancelled), status(other)] == ["RETRY", "RETRY"]
    operations.cancel_task(cancelled)
    mirror.repair()
    assert [status(cancelled), status(other)] == ["REVOKED", "RETRY"]
    assert TaskResult.objects.get(status="REVOKED").worker == "celery@here"
    assert Batch.objects.get(pk=batch.pk).state == BatchState.OPEN


def test_what_fails_for_another_is_recorded_while_the_batch_goes_on(operator, make_batch):
    items = [*chain(("first", ()), ("second", ("first",))), *chain(("third", ()))]
    batch = make_batch(operator, items=items, backend="celery")
    first, *_ = take(backend="celery")
    end_with_record(first, AttemptOutcome.REJECTED, error="no")
    second = batch.tasks.get(custom_id="second")
    assert (second.state, status(second)) == ("failed", None)
    mirror.repair()
    assert status(second) == "FAILURE"
    assert TaskResult.objects.get(task_id=str(second.pk)).traceback == second.error
    assert Batch.objects.get(pk=batch.pk).state == BatchState.OPEN


def test_what_ended_earlier_is_recorded_with_its_batch(operator, make_batch):
    batch = make_batch(operator, 2, backend="celery")
    early, last = batch.tasks.order_by("position")
    operations.cancel_task(early)
    Task.objects.filter(pk=early.pk).update(finished_at=Now() - timedelta(minutes=1))
    mirror.repair()
    assert status(early) is None
    operations.cancel_task(last)
    mirror.repair()
    assert [status(early), status(last)] == ["REVOKED", "REVOKED"]
    assert Batch.objects.get(pk=batch.pk).mirrored_at is not None


def test_what_is_right_costs_two_looks(operator, make_batch, django_assert_max_num_queries):
    batch = make_batch(operator, 201, backend="celery")
    for task in batch.tasks.filter(position__lt=200):
        operations.cancel_task(task)
    mirror.repair()
    assert TaskResult.objects.filter(status="REVOKED").count() == 200
    with django_assert_max_num_queries(2):  # at these tasks, and at the finished batches
        mirror.repair()


def test_a_record_of_another_end_is_put_right(operator, make_batch):
    batch = make_batch(operator, 2, backend="celery")
    [claimed] = take(1, backend="celery")
    end_with_record(claimed, AttemptOutcome.REJECTED, error="no")
    task = batch.tasks.get(state="failed")
    operations.retry_task(task)
    TaskResult.objects.filter(task_id=str(task.pk)).update(status="FAILURE")
    operations.cancel_task(batch.tasks.get(pk=task.pk))
    mirror.repair()
    assert status(task) == "REVOKED"


def test_tasks_of_database_workers_are_not_celerys(operator, make_batch):
    batch = make_batch(operator, 2, backend="database")
    operations.cancel_task(batch.tasks.get(position=0))
    mirror.repair()
    assert not TaskResult.objects.exists()

"""What a lease allows while it lasts."""

from __future__ import annotations

import pytest
from django.utils import timezone

from batches.models import Batch, Task
from batches.queue import lease as leases
from batches.queue.settle import reap
from batches.states import AttemptOutcome
from tests.queueing import end, expire, skip_backoff, take

pytestmark = pytest.mark.django_db


def test_an_effect_is_refused_once_the_batch_is_being_cancelled(operator, make_batch):
    batch = make_batch(operator, 1)
    [claimed] = take()
    Batch.objects.filter(pk=batch.pk).update(cancel_requested_at=timezone.now())
    assert leases.announce_effect(claimed.lease) == leases.Effect.REFUSED
    assert batch.tasks.get().effect_at is None


def alone(claimed):
    return leases.announce_effect(claimed.lease, claimed.workspace_id)


def both_in(workspace, make_batch, operator):
    make_batch(operator, 2, workspace="red")
    return take(workspaces=frozenset({workspace.pk}))


def test_one_attempt_at_a_time_has_a_workspace_to_itself(operator, make_batch, red):
    first, second = both_in(red, make_batch, operator)
    assert alone(first) == alone(first) == leases.Effect.GRANTED
    assert alone(second) == leases.Effect.BUSY
    assert Task.objects.get(pk=second.lease.task_id).effect_at is None
    end(first)
    assert alone(second) == leases.Effect.GRANTED


def test_a_workspace_is_free_once_its_attempt_is_lost_and_not_before(operator, make_batch, red):
    first, second = both_in(red, make_batch, operator)
    assert alone(first) == leases.Effect.GRANTED
    expire(first.lease.task_id)
    assert alone(first) == leases.Effect.REFUSED
    assert alone(second) == leases.Effect.BUSY
    reap()
    assert alone(second) == leases.Effect.GRANTED


def test_an_attempt_that_may_not_go_on_does_not_keep_the_workspace(operator, make_batch, red):
    first, second = both_in(red, make_batch, operator)
    Task.objects.filter(pk=first.lease.task_id).update(cancel_requested_at=timezone.now())
    assert alone(first) == leases.Effect.REFUSED
    red.refresh_from_db()
    assert red.changing_task is None
    assert alone(second) == leases.Effect.GRANTED
    red.refresh_from_db()
    assert (red.changing_task, red.changing_attempt) == (second.lease.task_id, 1)


def test_the_next_attempt_of_a_task_does_not_inherit_the_workspace(operator, make_batch, red):
    first, second = both_in(red, make_batch, operator)
    assert alone(first) == leases.Effect.GRANTED
    end(first, AttemptOutcome.ERROR)
    skip_backoff()
    [again] = take(workspaces=frozenset({red.pk}))
    assert again.lease.attempt == 2
    assert alone(second) == leases.Effect.GRANTED
    assert alone(again) == leases.Effect.BUSY

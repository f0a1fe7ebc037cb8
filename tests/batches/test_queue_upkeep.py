"""What upkeep does when nobody asked."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from batches import upkeep
from batches.models import Attempt, Batch, Task
from batches.queue.closing import (
    follow_up,
)
from batches.queue.settle import reap
from batches.states import BatchState
from tests.queueing import end, expire, take

pytestmark = pytest.mark.django_db


def test_cleanup_deletes_old_finished_batches_with_all_they_left(operator, make_batch):
    old, young, unfinished = make_batch(operator, 2), make_batch(operator, 1), make_batch(operator)
    for claimed in take(3):
        end(claimed)
    Batch.objects.filter(pk=old.pk).update(finished_at=timezone.now() - timedelta(days=40))
    assert [gone for gone in upkeep.cleanup(timedelta(days=30)) if gone] == [old.pk]
    assert set(Batch.objects.values_list("pk", flat=True)) == {young.pk, unfinished.pk}
    assert Attempt.objects.count() == 1


def test_an_abandoned_submission_is_removed(operator, make_batch):
    batch = make_batch(operator, 2)
    Batch.objects.update(sealed_at=None, created_at=timezone.now() - timedelta(hours=2))
    list(upkeep.deletions())
    assert not Batch.objects.filter(pk=batch.pk).exists()
    assert not Task.objects.exists()


def test_two_processes_do_not_take_the_same_chore():
    assert upkeep._take("something", 60)
    assert not upkeep._take("something", 60)


def test_reaping_follows_up_and_closes(operator, make_batch):
    batch = make_batch(operator, 1, max_attempts=1)
    [claimed] = take()
    expire(claimed.lease.task_id)
    follow_up(reap())
    batch.refresh_from_db()
    assert (batch.state, batch.summary["failures"]) == (BatchState.DONE, {"lost": 1})

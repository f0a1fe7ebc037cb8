"""Cancelling and retrying, and what comes between."""

from __future__ import annotations

from datetime import timedelta

import pytest

from batches import operations, upkeep
from batches.models import Batch, Task
from batches.queue import lease as leases
from batches.queue import resources, sealing
from batches.queue.closing import (
    unfinished_business,
)
from batches.queue.settle import settle
from batches.queue.verdicts import Verdict
from batches.states import AttemptOutcome, BatchState, TaskState
from batches.submission import Item
from tests.queueing import chain, end, names, take

pytestmark = pytest.mark.django_db


def row(claimed) -> Task:
    return Task.objects.get(pk=claimed.lease.task_id)


def test_cancelling_a_batch_ends_what_waits_and_asks_what_runs(operator, make_batch):
    batch = make_batch(operator, 3)
    [claimed] = take(1)
    operations.cancel_batch(batch)
    assert sorted(batch.tasks.values_list("state", flat=True)) == [
        "cancelled",
        "cancelled",
        "running",
    ]
    assert leases.cancel_wanted([claimed.lease]) == {claimed.lease}
    end(claimed, AttemptOutcome.CANCELLED, interrupted=True)
    batch.refresh_from_db()
    assert (batch.state, batch.summary["cancelled"]) == (BatchState.DONE, 3)


def test_a_task_that_fails_in_a_cancelled_batch_is_not_retried(operator, make_batch):
    batch = make_batch(operator, 1)
    [claimed] = take()
    operations.cancel_batch(batch)
    end(claimed, AttemptOutcome.ERROR)
    assert row(claimed).state == TaskState.CANCELLED


def test_cancelling_a_waiting_task_ends_it_and_what_depends_on_it(operator, make_batch):
    batch = make_batch(operator, items=chain(("a", ()), ("b", ("a",))))
    operations.cancel_task(batch.tasks.get(custom_id="a"))
    batch.refresh_from_db()
    assert batch.state == BatchState.DONE
    assert batch.summary["failures"] == {"dependency": 1}


def test_what_is_finished_cannot_be_cancelled(operator, make_batch):
    batch = make_batch(operator, 1)
    end(take()[0])
    batch.refresh_from_db()
    with pytest.raises(operations.Conflict):
        operations.cancel_batch(batch)
    with pytest.raises(operations.Conflict):
        operations.cancel_task(batch.tasks.get())
    with pytest.raises(operations.Conflict):
        operations.pause_batch(batch)


def test_a_retry_gives_a_full_budget_and_a_higher_attempt_number(operator, make_batch):
    batch = make_batch(operator, 1, max_attempts=1)
    end(take()[0], AttemptOutcome.ERROR)
    assert operations.retry_batch(batch) == 1
    task = batch.tasks.get()
    assert (task.state, task.failures, task.attempt, task.error) == ("queued", 0, 1, "")
    [claimed] = take()
    assert claimed.lease.attempt == 2


def test_a_retry_of_a_batch_can_keep_to_reasons_and_ids(operator, make_batch):
    batch = make_batch(operator, 3, max_attempts=1)
    a, b, c = take()
    end(a, AttemptOutcome.ERROR)
    end(b, AttemptOutcome.REJECTED)
    end(c, AttemptOutcome.ERROR)
    assert operations.retry_batch(batch, failures=["rejected"]) == 1
    assert operations.retry_batch(batch, ids=[c.lease.task_id]) == 1
    assert row(a).state == TaskState.FAILED


def test_a_batch_being_cancelled_cannot_be_retried_until_it_is_closed(operator, make_batch):
    batch = make_batch(operator, 2)
    [claimed] = take(1)
    operations.cancel_batch(batch)
    with pytest.raises(operations.Conflict):
        operations.retry_batch(batch)
    end(claimed, AttemptOutcome.CANCELLED, interrupted=True)
    assert operations.retry_batch(batch) == 2
    batch.refresh_from_db()
    assert (batch.state, batch.cancel_requested_at) == (BatchState.OPEN, None)
    assert len(take()) == 2


def test_what_succeeded_cannot_be_retried(operator, make_batch):
    batch = make_batch(operator, 1)
    end(take()[0])
    with pytest.raises(operations.Conflict):
        operations.retry_task(batch.tasks.get())
    assert operations.retry_batch(batch) == 0
    batch.refresh_from_db()
    assert batch.state == BatchState.DONE


def test_what_was_retried_in_a_stopped_batch_runs(operator, make_batch):
    batch = make_batch(operator, 2, on_failure="stop")
    for claimed in take():
        end(claimed, AttemptOutcome.REJECTED)
    operations.retry_task(batch.tasks.get(custom_id="0"))
    unfinished_business()
    assert names(take()) == ["0"]


def test_a_dependency_failure_does_not_stop_a_batch(operator, make_batch):
    batch = make_batch(
        operator, items=chain(("p", ()), ("c", ("p",)), ("free", ())), on_failure="stop"
    )
    operations.cancel_task(batch.tasks.get(custom_id="p"))
    unfinished_business()
    assert names(take()) == ["free"]


def test_a_late_answer_beside_the_valid_one_does_not_displace_it(operator, make_batch):
    make_batch(operator, 1)
    [late] = take()
    end(late, AttemptOutcome.RELEASED)
    [second] = take()
    good = Verdict(second.lease, AttemptOutcome.SUCCEEDED)
    [settled] = settle([good, Verdict(late.lease, AttemptOutcome.ERROR)])
    assert settled.lease == second.lease


def test_a_priority_given_while_rows_were_inserted_reaches_all_of_them(operator, make_batch):
    batch = make_batch(operator, 2, priority=3)
    Batch.objects.filter(pk=batch.pk).update(priority=8, sealed_at=None)
    sealing.seal(batch.pk)
    assert set(batch.tasks.values_list("priority", flat=True)) == {8}


def test_only_one_process_cleans_up_at_a_time(operator, make_batch):
    for _ in range(2):
        make_batch(operator, 1)
        end(take()[0])
    first = upkeep.cleanup(timedelta(0))
    next(first)
    with pytest.raises(upkeep.CleanupBusy):
        next(upkeep.cleanup(timedelta(0)))
    assert len([gone for gone in first if gone]) == 2
    assert list(upkeep.cleanup(timedelta(0))) == []


def test_a_batch_submitted_while_its_resource_is_away_waits_outside_the_index(operator, make_batch):
    resources.mark_away("file:/x", "misbehave", "gone")
    needy = Item({"how": "need", "needs": "file:/x"}, id="needy")
    make_batch(operator, items=[needy, Item({"how": "reject"}, id="other")], kind="misbehave")
    assert names(take()) == ["other"]
    assert Task.objects.get(custom_id="needy").waiting_for == "file:/x"
    resources.mark_back("file:/x")
    assert names(take()) == ["needy"]

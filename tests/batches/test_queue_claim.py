"""Which task is claimed, in which order, and which is not."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from batches import operations
from batches.models import Batch, Queue, Task, Workspace
from batches.queue.claim import claim
from batches.queue.schedule import seconds_until_due, wake_due
from batches.queue.walk import Claimant
from batches.states import AttemptOutcome, TaskState
from batches.submission import Item
from tests.queueing import Places, end, expire, names, take

pytestmark = pytest.mark.django_db


def items(*names: str, **more):
    return [Item(payload={}, id=name, **more) for name in names]


def test_higher_priority_first_then_the_older_batch_then_the_position(operator, make_batch):
    make_batch(operator, items=items("a1", "a2"), priority=5)
    make_batch(operator, items=[*items("b1"), *items("b2", priority=9)], priority=5)
    make_batch(operator, items=items("c1"), priority=7)
    assert names(take()) == ["b2", "c1", "a1", "a2", "b1"]


def test_a_claim_starts_an_attempt_and_leases_the_row(operator, make_batch):
    batch = make_batch(operator, 1)
    [claimed] = take(worker="somebody")
    task = Task.objects.get(pk=claimed.lease.task_id)
    assert (task.state, task.attempt, task.worker) == (TaskState.RUNNING, 1, "somebody")
    assert timezone.now() < task.leased_until <= timezone.now() + timedelta(seconds=61)
    assert claimed.lease.attempt == 1
    batch.refresh_from_db()
    assert batch.started_at is not None


def test_a_task_is_claimed_once(operator, make_batch):
    make_batch(operator, 3)
    assert len(take()) == 3
    assert take() == []


def test_many_small_batches_are_claimed_in_one_go(operator, make_batch):
    for index in range(30):
        make_batch(operator, items=items(f"t{index}"))
    assert names(take(25)) == [f"t{index}" for index in range(25)]


def test_more_blocked_lanes_than_one_look_covers_do_not_hide_what_is_behind(operator, make_batch):
    for _ in range(80):
        operations.pause_batch(make_batch(operator, 1, priority=10))
    make_batch(operator, items=items("free"), priority=0)
    assert names(take()) == ["free"]


def test_nothing_is_claimed_from_a_paused_batch_until_it_is_resumed(operator, make_batch):
    batch = make_batch(operator, 2)
    operations.pause_batch(batch)
    assert take() == []
    operations.resume_batch(batch)
    assert len(take()) == 2


def test_nothing_is_claimed_from_a_paused_queue(operator, make_batch):
    make_batch(operator, 1)
    queue = Queue.objects.get(pk="default")
    operations.change_queue(queue, paused=True)
    assert take() == []
    operations.change_queue(queue, paused=False)
    assert len(take()) == 1


def test_an_unsealed_batch_is_not_claimed(operator, make_batch):
    batch = make_batch(operator, 1)
    Batch.objects.filter(pk=batch.pk).update(sealed_at=None)
    assert take() == []


def test_only_the_queues_of_the_worker_are_claimed(operator, make_batch):
    make_batch(operator, items=items("slow"), queue="low_priority")
    make_batch(operator, items=items("fast"), queue="high_priority")
    assert names(take(queues=frozenset({"low_priority"}))) == ["slow"]


def test_a_kind_without_room_does_not_hold_up_the_others(operator, make_batch):
    make_batch(operator, items=[Item({"seconds": 1}, id="s")], kind="sleep", priority=9)
    make_batch(operator, items=items("n"), priority=1)
    claimed = claim(Claimant("w", "database"), Places(kinds={"noop"}))
    assert names(claimed) == ["n"]


def test_a_workspace_that_the_worker_cannot_open_is_not_claimed(operator, red, make_batch):
    make_batch(operator, 1, workspace="red")
    assert take() == []
    assert take(workspaces=frozenset({uuid4()})) == []
    assert len(take(workspaces=frozenset({Workspace.objects.get().pk}))) == 1


def test_parallel_limits_what_runs_at_once(operator, make_batch):
    make_batch(operator, 5, parallel=2)
    first = take()
    assert len(first) == 2
    assert take() == []
    end(first[0])
    assert len(take()) == 1


def test_a_limited_batch_does_not_hold_up_the_others(operator, make_batch):
    make_batch(operator, 5, parallel=1, priority=9)
    make_batch(operator, items=items("x", "y"))
    assert len(take()) == 3


def test_a_queue_limit_counts_over_batches(operator, make_batch):
    operations.change_queue(Queue.objects.get(pk="default"), concurrency_limit=3)
    make_batch(operator, 2)
    make_batch(operator, 5)
    assert len(take()) == 3
    assert take() == []


def test_a_rate_limit_counts_starts_of_the_last_minute(operator, make_batch):
    queue = Queue.objects.get(pk="default")
    operations.change_queue(queue, rate_limit=2)
    make_batch(operator, 5)
    started = take()
    assert len(started) == 2
    for claimed in started:
        end(claimed)
    assert take() == []
    queue.starts.update(at=timezone.now() - timedelta(seconds=61))
    assert len(take()) == 2


def test_scheduled_work_waits_outside_the_claim_index(operator, make_batch):
    batch = make_batch(operator, 2, run_at=timezone.now() + timedelta(hours=1))
    assert take() == []
    assert 3500 < seconds_until_due() <= 3600
    batch.tasks.update(run_after=timezone.now() - timedelta(seconds=1))
    assert seconds_until_due() == 0
    assert wake_due() == 2
    assert seconds_until_due() is None
    assert len(take()) == 2


def test_nothing_is_claimed_past_the_deadline(operator, make_batch):
    batch = make_batch(operator, 1, deadline=timezone.now() + timedelta(hours=1))
    Batch.objects.filter(pk=batch.pk).update(deadline=timezone.now() - timedelta(seconds=1))
    assert take() == []


def test_an_attempt_is_given_no_more_time_than_the_deadline_leaves(operator, make_batch):
    make_batch(operator, 1, deadline=timezone.now() + timedelta(seconds=30), timeout=100)
    [claimed] = take()
    assert 0 < claimed.timeout <= 30


def test_a_task_that_needs_something_away_is_left_where_it_is(operator, make_batch):
    needy = Item({"how": "need", "needs": "file:/x"}, id="needy")
    other = Item({"how": "reject"}, id="other")
    make_batch(operator, items=[needy, other], kind="misbehave")
    assert names(take(away=frozenset({"file:/x"}))) == ["other"]
    assert names(take()) == ["needy"]


def test_a_new_priority_reaches_what_inherited_it(operator, make_batch):
    batch = make_batch(operator, items=[*items("a"), *items("own", priority=1)])
    other = make_batch(operator, items=items("b"), priority=6)
    operations.change_batch(batch, priority=8)
    assert names(take()) == ["a", "b", "own"]
    assert Batch.objects.get(pk=other.pk).priority == 6


def test_a_batch_that_gives_up_its_priority_gets_the_queues(operator, make_batch):
    batch = make_batch(operator, 1, priority=9)
    operations.change_batch(batch, priority=None)
    assert batch.tasks.get().priority == 5
    operations.change_queue(Queue.objects.get(pk="default"), priority=7)
    assert batch.tasks.get().priority == 7


def test_a_queues_priority_reaches_only_batches_without_their_own(operator, make_batch):
    plain, own = make_batch(operator, 1), make_batch(operator, 1, priority=3)
    operations.change_queue(Queue.objects.get(pk="default"), priority=10)
    assert (plain.tasks.get().priority, own.tasks.get().priority) == (10, 3)


def test_a_task_can_be_moved_ahead(operator, make_batch):
    batch = make_batch(operator, items=items("a", "b"))
    operations.change_task(batch.tasks.get(custom_id="b"), priority=10)
    assert names(take()) == ["b", "a"]


def test_a_finished_task_has_no_priority_to_change(operator, make_batch):
    batch = make_batch(operator, 1)
    end(take()[0])
    with pytest.raises(operations.Conflict):
        operations.change_task(batch.tasks.get(), priority=1)


def test_a_reclaimed_task_has_the_next_attempt_number(operator, make_batch):
    make_batch(operator, 1)
    [first] = take()
    end(first, AttemptOutcome.RELEASED)
    [second] = take()
    assert (first.lease.attempt, second.lease.attempt) == (1, 2)
    expire(second.lease.task_id)
    assert take() == []

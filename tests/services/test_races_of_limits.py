"""Limits and priorities while several connections claim, submit and change them."""

from __future__ import annotations

import pytest
from django.utils import timezone

from batches import operations
from batches.models import Batch, Queue, Task
from batches.queue import priorities, sealing, wishes
from batches.states import TaskState
from batches.submission import Item, Submission
from tests.queueing import names, take

pytestmark = pytest.mark.postgres_only


@pytest.fixture
def started(submit):
    """Submits batches that have started before: a first claim locks its batch, limit or not."""

    def make(*tasks: str, **options) -> Batch:
        batch = submit(*tasks, **options)
        Batch.objects.update(started_at=timezone.now())
        return batch

    return make


def running() -> int:
    return Task.objects.filter(state=TaskState.RUNNING).count()


def test_two_claimers_share_the_limit_of_a_batch(race, started):
    started("a", "b", "c", parallel=2)
    first = race.uncommitted(take, 1)
    second = race.start(take)
    assert names(first.result()) + names(second.result()) == ["a", "b"]
    assert running() == 2


def test_two_claimers_share_the_limit_of_a_queue(race, started):
    started("a")
    started("b")
    Queue.objects.filter(pk="default").update(concurrency_limit=1)
    first = race.uncommitted(take)
    second = race.start(take)
    assert names(first.result()) == ["a"]
    assert second.result() == []


def test_two_claimers_share_the_rate_limit_of_a_queue(race, started):
    started("a", "b", "c")
    Queue.objects.filter(pk="default").update(rate_limit=2)
    first = race.uncommitted(take, 1)
    second = race.start(take)
    assert names(first.result()) + names(second.result()) == ["a", "b"]


def test_a_claimer_that_waited_for_a_limit_heeds_a_pause_that_came_meanwhile(race, submit):
    batch = submit("a", parallel=1)
    elsewhere = race.locked(Queue, "default")
    claimer = race.start(take)
    wishes.pause(batch.pk)
    elsewhere.go()
    assert claimer.result() == []


def test_a_queues_new_priority_reaches_a_batch_that_is_just_being_submitted(race, owner):
    def body():
        yield Item({}, id="a")
        # Everything was looked up by now, and no row of the batch is in yet.
        priorities.set_queue_priority("default", 8)

    batch = operations.submit(owner, Submission(kind="noop", items=body()))
    assert batch.tasks.get().priority == 8


def test_a_queues_new_priority_reaches_a_batch_that_is_just_being_sealed(race, submit):
    batch = submit("a")
    Batch.objects.update(sealed_at=None)
    seal = race.uncommitted(sealing.seal, batch.pk)
    change = race.start(priorities.set_queue_priority, "default", 8)
    seal.go()
    change.result()
    assert batch.tasks.get().priority == 8


def test_the_last_of_two_changes_of_a_queues_priority_wins_everywhere(race, submit):
    batch = submit("a")
    overtaken = race.start(priorities.set_queue_priority, "default", 3, before="FOR NO KEY UPDATE")
    priorities.set_queue_priority("default", 8)
    overtaken.result()
    assert batch.tasks.get().priority == Queue.objects.get(pk="default").priority == 8


def test_a_batch_that_gives_up_its_priority_gets_the_one_its_queue_gets_meanwhile(race, submit):
    batch = submit("a", priority=2)
    giving_up = race.uncommitted(priorities.set_batch_priority, batch.pk, None)
    change = race.start(priorities.set_queue_priority, "default", 8)
    giving_up.go()
    change.result()
    assert batch.tasks.get().priority == 8


def test_a_batchs_new_priority_reaches_the_rows_still_being_inserted(race, owner):
    submitting = race.start(
        operations.submit,
        owner,
        Submission(kind="noop", items=[Item({})], priority=2),
        before='COPY "batches_task"',
    )
    batch = Batch.objects.get()
    priorities.set_batch_priority(batch.pk, 9)
    submitting.result()
    assert batch.tasks.get().priority == 9


def test_a_new_batch_that_another_starts_is_passed_over_and_not_waited_for(race, submit):
    submit("a")
    submit("b")
    first = race.uncommitted(take, 1)
    second = race.start(take)
    assert second.rest() == "ended"
    assert names(second.result()) == ["b"]
    assert names(first.result()) == ["a"]


def test_a_claim_of_one_task_locks_one_new_batch(race, submit):
    submit("a")
    other = submit("b")
    first = race.uncommitted(take, 1)
    pause = race.start(wishes.pause, other.pk)
    assert pause.rest() == "ended"
    assert names(first.result()) == ["a"]

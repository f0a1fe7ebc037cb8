"""What waits for what, inside a batch and between batches."""

from __future__ import annotations

import pytest

from batches import operations
from batches.queue.closing import (
    overlooked_dependents,
)
from batches.queue.settle import settle
from batches.queue.verdicts import Verdict
from batches.states import AttemptOutcome, BatchState, Failure
from batches.submission import Item
from tests.queueing import chain, end, names, take

pytestmark = pytest.mark.django_db


def test_a_task_waits_for_what_it_depends_on(operator, make_batch):
    make_batch(operator, items=chain(("c", ("a", "b")), ("a", ()), ("b", ())))
    a, b = take()
    end(a)
    assert take() == []
    end(b)
    assert names(take()) == ["c"]


def test_what_depends_on_a_failure_fails_with_it_all_the_way(operator, make_batch):
    batch = make_batch(operator, items=chain(("a", ()), ("b", ("a",)), ("c", ("b",)), ("d", ())))
    a, d = take()
    end(a, AttemptOutcome.REJECTED)
    ended = dict(batch.tasks.values_list("custom_id", "failure"))
    assert ended == {"a": "rejected", "b": "dependency", "c": "dependency", "d": ""}
    end(d)
    batch.refresh_from_db()
    assert batch.state == BatchState.DONE


def test_retrying_the_cause_queues_its_victims_again(operator, make_batch):
    batch = make_batch(operator, items=chain(("a", ()), ("b", ("a",)), ("c", ("b",))))
    [a] = take()
    end(a, AttemptOutcome.REJECTED)
    operations.retry_task(batch.tasks.get(custom_id="a"))
    batch.refresh_from_db()
    assert batch.state == BatchState.OPEN
    for expected in ("a", "b", "c"):
        [claimed] = take()
        assert names([claimed]) == [expected]
        end(claimed)
    batch.refresh_from_db()
    assert (batch.state, batch.summary["succeeded"]) == (BatchState.DONE, 3)


def test_a_victim_of_two_causes_waits_for_both(operator, make_batch):
    batch = make_batch(operator, items=chain(("a", ()), ("b", ()), ("c", ("a", "b"))))
    for claimed in take():
        end(claimed, AttemptOutcome.REJECTED)
    operations.retry_task(batch.tasks.get(custom_id="a"))
    assert batch.tasks.get(custom_id="c").failure == Failure.DEPENDENCY
    operations.retry_task(batch.tasks.get(custom_id="b"))
    for claimed in take():
        end(claimed)
    assert names(take()) == ["c"]


def test_upkeep_frees_what_a_dead_process_forgot_to(operator, make_batch):
    make_batch(operator, items=chain(("a", ()), ("b", ("a",))))
    settle([Verdict(take()[0].lease, AttemptOutcome.SUCCEEDED)])
    assert take() == []
    overlooked_dependents()
    assert names(take()) == ["b"]


def test_a_batch_waits_for_the_batches_it_comes_after(operator, make_batch):
    first = make_batch(operator, 1)
    second = make_batch(operator, items=[Item({}, id="later")], after=(first.pk,))
    [claimed] = take()
    end(claimed)
    assert names(take()) == ["later"]
    second.refresh_from_db()
    assert second.unmet_after == 0


def test_a_batch_after_one_that_failed_fails_as_dependency(operator, make_batch):
    first = make_batch(operator, 1)
    second = make_batch(operator, 2, after=(first.pk,))
    third = make_batch(operator, 1, after=(second.pk,))
    end(take()[0], AttemptOutcome.REJECTED)
    for batch in (second, third):
        batch.refresh_from_db()
        assert batch.state == BatchState.DONE
        assert batch.summary["failures"] == {"dependency": batch.total}
    operations.retry_batch(first)
    end(take()[0])
    for number in (2, 1):
        claimed = take()
        assert len(claimed) == number
        for item in claimed:
            end(item)
    third.refresh_from_db()
    assert third.summary["succeeded"] == 1


def test_a_batch_after_a_finished_one_may_start_at_once(operator, make_batch):
    first = make_batch(operator, 1)
    end(take()[0])
    make_batch(operator, 1, after=(first.pk,))
    assert len(take()) == 1


def test_a_batch_after_a_failed_one_ends_at_once(operator, make_batch):
    first = make_batch(operator, 1)
    end(take()[0], AttemptOutcome.REJECTED)
    second = make_batch(operator, 1, after=(first.pk,))
    second.refresh_from_db()
    assert second.state == BatchState.DONE

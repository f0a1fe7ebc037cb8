"""The races of the queue, each with two connections whose steps are put in the losing order."""

from __future__ import annotations

import pytest

from batches.models import Attempt, Batch, Task
from batches.queue import lease as leases
from batches.queue import priorities, retrying, sealing, sql, wishes
from batches.queue.claim import Claimed
from batches.queue.closing import (
    close_finished,
    follow_up,
    overlooked_dependents,
    unfinished_business,
)
from batches.queue.dependencies import recompute_dependents
from batches.queue.removal import delete_batch
from batches.queue.settle import reap, settle
from batches.queue.verdicts import Verdict
from batches.states import AttemptOutcome, BatchState
from batches.supervision.ledger import Ledger
from tests.queueing import end, expire, names, skip_backoff, take

pytestmark = pytest.mark.postgres_only

FIRST_LANES = "WITH RECURSIVE walk"
LAST_LOOK = sql.has("queued", "%s")
COUNTS = "unmet_dependencies = ("


def state(batch: Batch) -> str:
    return str(Batch.objects.values_list("state", flat=True).get(pk=batch.pk))


def states(batch: Batch) -> dict[str, str]:
    return dict(batch.tasks.values_list("custom_id", "state"))


def story(claimed: Claimed) -> list[tuple[int, str]]:
    """The attempts of the task, as they are on record."""
    found = Attempt.objects.filter(task=claimed.lease.task_id)
    return list(found.order_by("number").values_list("number", "outcome"))


def verdict(claimed: Claimed, outcome: str = "succeeded", **more) -> Verdict:
    return Verdict(claimed.lease, AttemptOutcome(outcome), **more)


def supervise(claimed: Claimed, outcome: str = "succeeded") -> None:
    """Settle as a supervisor does: its own commit, and then what follows from it."""
    ledger = Ledger()
    ledger.add(claimed, verdict(claimed, outcome))
    ledger.commit()


# -- claims and leases ----------------------------------------------------------------------------


def test_two_claimers_never_get_the_same_task(race, submit):
    submit("a", "b", "c", "d")
    take(1)  # the first claim of a batch also marks it started, which others wait for
    first = race.uncommitted(take, 2)
    second = race.start(take)
    assert second.rest() == "ended"
    assert names(first.result()) + names(second.result()) == ["b", "c", "d"]


def test_a_late_answer_is_void_when_the_task_was_reaped_meanwhile(race, submit):
    batch = submit("a")
    [late] = take()
    expire(late.lease.task_id)
    reaper = race.uncommitted(reap)
    answer = race.start(settle, [verdict(late)])
    reaper.go()
    assert answer.result() == []
    assert states(batch) == {"a": "queued"}
    assert story(late) == [(1, "lost")]


def test_a_late_answer_is_void_when_the_task_runs_again_meanwhile(race, submit):
    batch = submit("a")
    [late] = take(worker="slow")
    expire(late.lease.task_id)

    def lose_and_claim_again() -> list[Claimed]:
        reap()
        skip_backoff()
        return take(worker="quick")

    again = race.uncommitted(lose_and_claim_again)
    answer = race.start(settle, [verdict(late)])
    [quick] = again.result()
    assert answer.result() == []
    assert states(batch) == {"a": "running"}
    assert len(end(quick)) == 1
    assert story(quick) == [(1, "lost"), (2, "succeeded")]


def test_two_answers_for_one_lease_count_once(race, submit):
    submit("a")
    [claimed] = take()
    first = race.uncommitted(settle, [verdict(claimed)])
    second = race.start(settle, [verdict(claimed, "rejected")])
    assert len(first.result()) == 1
    assert second.result() == []
    assert story(claimed) == [(1, "succeeded")]


def test_two_reapers_at_once_end_an_attempt_once(race, submit):
    batch = submit("a")
    [claimed] = take()
    expire(claimed.lease.task_id)
    first = race.uncommitted(reap)
    second = race.start(reap)
    assert len(first.result()) == 1
    assert second.result() == []
    assert story(claimed) == [(1, "lost")]
    assert batch.tasks.get().failures == 1


def test_a_renewal_that_is_not_committed_yet_keeps_the_reaper_away(race, submit):
    batch = submit("a")
    [claimed] = take()
    expire(claimed.lease.task_id)
    renewal = race.uncommitted(leases.renew, [claimed.lease])
    reaper = race.start(reap)
    assert renewal.result().renewed == {claimed.lease}
    assert reaper.result() == []
    assert states(batch) == {"a": "running"}


def test_a_renewal_never_waits_for_a_settle_and_so_cannot_deadlock_with_it(race, submit):
    submit("a", "b")
    a, b = take()
    elsewhere = race.locked(Task, b.lease.task_id)
    settling = race.start(settle, [verdict(a), verdict(b)])
    assert settling.rest() == "waiting"  # holds the row of a, wants that of b
    renewal = race.start(leases.renew, [b.lease, a.lease])
    assert renewal.rest() == "ended"
    assert renewal.result() == leases.Renewal(renewed=frozenset(), lost=frozenset())
    elsewhere.go()
    assert len(settling.result()) == 2


def test_a_settle_and_a_change_of_priority_lock_rows_in_one_order(race, submit):
    batch = submit("a", "b", "c")
    claimed = take(2)
    elsewhere = race.locked(Task, claimed[1].lease.task_id)
    change = race.start(priorities.set_batch_priority, batch.pk, 9)
    settling = race.start(settle, [verdict(item) for item in reversed(claimed)])
    elsewhere.go()
    change.result()
    assert len(settling.result()) == 2
    assert batch.tasks.get(custom_id="c").priority == 9


# -- closing --------------------------------------------------------------------------------------


def test_two_last_tasks_that_settle_together_close_their_batch(race, submit):
    batch = submit("a", "b")
    a, b = take()
    first = race.start(supervise, a, after=LAST_LOOK)
    second = race.start(supervise, b)
    first.result()
    second.result()
    assert state(batch) == BatchState.DONE


def test_a_batch_is_not_closed_over_a_retry(race, submit):
    batch = submit("a")
    settle([verdict(take()[0], "rejected")])
    retry = race.uncommitted(retrying.retry, batch.pk)
    closer = race.start(close_finished, [batch.pk])
    retry.go()
    closer.result()
    assert states(batch) == {"a": "queued"}
    assert state(batch) == BatchState.OPEN
    assert len(take()) == 1


def test_a_retry_reopens_a_batch_that_is_just_being_closed(race, submit):
    batch = submit("a")
    settle([verdict(take()[0], "rejected")])
    closer = race.uncommitted(close_finished, [batch.pk])
    retry = race.start(retrying.retry, batch.pk)
    closer.go()
    assert len(retry.result()) == 1
    batch.refresh_from_db()
    assert (batch.state, batch.finished_at, batch.summary) == (BatchState.OPEN, None, None)
    assert len(take()) == 1


def test_two_retries_at_once_queue_a_task_once(race, submit):
    batch = submit("a")
    end(take()[0], AttemptOutcome.REJECTED)
    first = race.uncommitted(retrying.retry, batch.pk)
    second = race.start(retrying.retry, batch.pk)
    assert len(first.result()) == 1
    assert second.result() == []


def test_two_seals_of_a_batch_count_once(race, submit):
    batch = submit("a")
    Batch.objects.update(sealed_at=None)
    first = race.uncommitted(sealing.seal, batch.pk)
    second = race.start(sealing.seal, batch.pk)
    assert first.result() is True
    assert second.result() is False


# -- dependencies ---------------------------------------------------------------------------------


def test_two_predecessors_that_settle_together_free_what_waits_for_both(race, submit):
    submit("a", "b", "c after a b")
    a, b = take()
    first = race.start(supervise, a, after=COUNTS)
    second = race.start(supervise, b)
    first.result()
    second.result()
    assert names(take()) == ["c"]


def test_a_repeated_follow_up_frees_nothing_early(submit):
    submit("a", "b", "c after a b")
    a, b = take()
    settled = end(a)
    follow_up(settled)
    overlooked_dependents()
    assert take() == []
    end(b)
    assert names(take()) == ["c"]


def test_a_retry_waits_for_the_failing_of_what_depends_on_it_and_revives_it(race, submit):
    batch = submit("a", "b after a", "c after b")
    [a] = take()
    settle([verdict(a, "rejected")])
    failing = race.uncommitted(recompute_dependents, [a.lease.task_id])
    retry = race.start(retrying.retry, batch.pk, after=COUNTS)
    failing.go()
    retry.result()
    assert states(batch) == {"a": "queued", "b": "queued", "c": "queued"}
    for expected in ("a", "b", "c"):
        [claimed] = take()
        assert names([claimed]) == [expected]
        end(claimed)
    assert state(batch) == BatchState.DONE


def test_nothing_fails_because_of_a_task_that_is_just_being_retried(race, submit):
    batch = submit("a", "b after a")
    [a] = take()
    settle([verdict(a, "rejected")])
    retry = race.uncommitted(retrying.retry, batch.pk)
    failing = race.start(recompute_dependents, [a.lease.task_id])
    retry.go()
    failing.result()
    assert states(batch) == {"a": "queued", "b": "queued"}


def test_a_failing_chain_and_a_cancel_of_its_batch_do_not_deadlock(race, submit):
    # Submitted against their order, so that the chain is locked against the order of the ids.
    batch = submit("c after b", "b after a", "a")
    [a] = take()
    settled = settle([verdict(a, "rejected")])
    elsewhere = race.locked(Task, batch.tasks.get(custom_id="c").pk)
    cancel = race.start(wishes.cancel_batch, batch.pk)
    failing = race.start(follow_up, settled)
    elsewhere.go()
    cancel.result()
    failing.result()
    assert states(batch) == {"a": "failed", "b": "cancelled", "c": "cancelled"}
    assert state(batch) == BatchState.DONE


def test_batches_that_come_after_one_another_see_a_retry_that_overtakes_the_closing(race, submit):
    first = submit("a")
    second = submit("b", after=(first.pk,))
    settle([verdict(take()[0], "rejected")])
    closer = race.start(close_finished, [first.pk], before="batches_batch_after a WHERE")
    retrying.retry(first.pk)
    closer.result()
    assert states(second) == {"b": "queued"}
    end(take()[0])
    assert names(take()) == ["b"]


# -- cancel ---------------------------------------------------------------------------------------


def test_a_batch_that_was_cancelled_since_the_claimer_looked_gives_nothing(race, submit):
    batch = submit("a", "b")
    claimer = race.start(take, after=FIRST_LANES)
    wishes.cancel_batch(batch.pk)
    assert claimer.result() == []
    assert state(batch) == BatchState.DONE


def test_a_task_claimed_while_its_batch_is_cancelled_hears_of_it(race, submit):
    batch = submit("a", "b")
    claimer = race.uncommitted(take, 1)
    cancel = race.start(wishes.cancel_batch, batch.pk)
    [claimed] = claimer.result()
    cancel.result()
    assert states(batch) == {"a": "running", "b": "cancelled"}
    assert leases.cancel_wanted([claimed.lease]) == {claimed.lease}
    end(claimed, AttemptOutcome.ERROR)
    assert states(batch) == {"a": "cancelled", "b": "cancelled"}
    assert state(batch) == BatchState.DONE


def test_the_first_claim_of_a_batch_and_its_cancel_do_not_deadlock(race, submit):
    batch = submit("a", "b")
    claimer = race.start(take, 1, before="SET started_at")  # holds a row, wants the batch's
    cancel = race.start(wishes.cancel_batch, batch.pk)  # may hold the batch's, and want the row
    [claimed] = claimer.result()
    cancel.result()
    assert states(batch) == {"a": "running", "b": "cancelled"}
    assert leases.cancel_wanted([claimed.lease]) == {claimed.lease}


def test_a_task_claimed_while_it_is_cancelled_is_asked_to_stop(race, submit):
    submit("a")
    claimer = race.uncommitted(take)
    pk = Task.objects.get().pk
    cancel = race.start(wishes.cancel_task, pk)
    [claimed] = claimer.result()
    cancel.result()
    assert leases.cancel_wanted([claimed.lease]) == {claimed.lease}


def test_a_retry_decided_before_its_batch_was_cancelled_is_swept_up(race, submit):
    batch = submit("a")
    [claimed] = take()
    settling = race.uncommitted(settle, [verdict(claimed, "error", retry_in=0.0)])
    wishes.cancel_batch(batch.pk)
    settling.go()
    skip_backoff()
    assert take() == []
    unfinished_business()
    assert states(batch) == {"a": "cancelled"}
    assert state(batch) == BatchState.DONE


def test_an_attempt_that_fails_while_its_task_is_cancelled_is_not_repeated(race, submit):
    batch = submit("a")
    [claimed] = take()
    cancel = race.uncommitted(wishes.cancel_task, claimed.lease.task_id)
    settling = race.start(settle, [verdict(claimed, "error")])
    cancel.go()
    follow_up(settling.result())
    assert states(batch) == {"a": "cancelled"}
    assert state(batch) == BatchState.DONE


def test_a_cancel_and_a_retry_of_a_batch_take_turns(race, submit):
    batch = submit("a", "b", max_attempts=1)
    a, _ = take()
    end(a, AttemptOutcome.ERROR)
    cancel = race.uncommitted(wishes.cancel_batch, batch.pk)
    retry = race.start(retrying.retry, batch.pk)
    cancel.go()
    with pytest.raises(wishes.Conflict):
        retry.result()
    assert states(batch) == {"a": "failed", "b": "running"}


def test_a_batch_that_is_just_being_retried_is_not_deleted(race, submit):
    batch = submit("a")
    end(take()[0], AttemptOutcome.REJECTED)
    retry = race.uncommitted(retrying.retry, batch.pk)
    deletion = race.start(delete_batch, batch.pk)
    retry.go()
    assert deletion.result() is False
    assert states(batch) == {"a": "queued"}


def test_a_batch_that_is_just_being_deleted_is_not_retried(race, submit):
    batch = submit("a")
    end(take()[0], AttemptOutcome.REJECTED)
    deletion = race.start(delete_batch, batch.pk, after='UPDATE "batches_batch"')
    retry = race.start(retrying.retry, batch.pk)
    assert deletion.result() is True
    with pytest.raises(wishes.Conflict):
        retry.result()

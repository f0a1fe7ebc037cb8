"""How attempts end, and what that sets going."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from batches import operations, upkeep
from batches.models import Attempt, Batch, Resource, Task
from batches.queue import lease as leases
from batches.queue import resources
from batches.queue.claim import Lease
from batches.queue.closing import (
    close_finished,
    unfinished_business,
)
from batches.queue.settle import reap, settle
from batches.queue.verdicts import Standing, Verdict, backoff, decide
from batches.states import MOVES, AttemptOutcome, BatchState, TaskState
from batches.submission import Item
from tests.queueing import end, expire, names, skip_backoff, take

pytestmark = pytest.mark.django_db


def row(claimed) -> Task:
    return Task.objects.get(pk=claimed.lease.task_id)


def test_a_success_is_stored_with_its_attempt(operator, make_batch):
    make_batch(operator, 1)
    [claimed] = take()
    end(claimed, result={"answer": 42}, seconds=1.5, sandbox="bubblewrap")
    task = row(claimed)
    assert (task.state, task.result, task.leased_until) == ("succeeded", {"answer": 42}, None)
    attempt = task.attempts.get()
    assert (attempt.number, attempt.outcome, attempt.worker) == (1, "succeeded", "w1")
    assert attempt.sandbox == "bubblewrap"
    ran = (attempt.finished_at - attempt.started_at).total_seconds()
    assert ran == pytest.approx(1.5, abs=0.01)


def test_a_rejection_is_final_and_costs_no_retry(operator, make_batch):
    make_batch(operator, 1)
    [claimed] = take()
    end(claimed, AttemptOutcome.REJECTED, error="2 findings", result={"findings": 2})
    task = row(claimed)
    assert (task.state, task.failure, task.error) == ("failed", "rejected", "2 findings")
    assert task.result == {"findings": 2}


@pytest.mark.parametrize(
    "outcome", [AttemptOutcome.ERROR, AttemptOutcome.TIMEOUT, AttemptOutcome.LOST]
)
def test_what_may_pass_is_tried_again_until_the_budget_is_used(operator, make_batch, outcome):
    make_batch(operator, 1, max_attempts=2)
    [first] = take()
    end(first, outcome)
    task = row(first)
    assert (task.state, task.failures) == (TaskState.QUEUED, 1)
    assert task.run_after > timezone.now()
    assert take() == []
    skip_backoff()
    [second] = take()
    end(second, outcome)
    task = row(second)
    assert (task.state, task.failure, task.failures) == ("failed", outcome.value, 2)
    assert [a.number for a in task.attempts.all()] == [1, 2]
    assert list(Task.objects.dead_letters()) == [task]


def test_backoff_doubles_up_to_a_cap_with_jitter():
    for failures, whole in [(1, 1), (2, 2), (5, 16), (11, 600), (5000, 600)]:
        delays = {backoff(failures) for _ in range(50)}
        assert len(delays) > 1
        assert all(whole / 2 <= delay <= whole for delay in delays)


def test_the_processor_may_name_its_own_delay(operator, make_batch):
    make_batch(operator, 1)
    [claimed] = take()
    [settled] = end(claimed, AttemptOutcome.ERROR, retry_in=120.0)
    assert settled.delay == 120.0
    assert 110 < (row(claimed).run_after - timezone.now()).total_seconds() <= 120


def test_a_late_answer_is_void(operator, make_batch):
    make_batch(operator, 1)
    [late] = take(worker="slow")
    expire(late.lease.task_id)
    assert len(reap()) == 1
    skip_backoff()
    [second] = take(worker="quick")
    assert end(late, result={"from": "slow"}) == []
    assert row(second).state == TaskState.RUNNING
    end(second, result={"from": "quick"})
    assert end(late, AttemptOutcome.REJECTED) == []
    task = row(second)
    assert task.result == {"from": "quick"}
    assert [(a.number, a.outcome) for a in task.attempts.all()] == [(1, "lost"), (2, "succeeded")]


def test_one_void_answer_does_not_take_the_others_with_it(operator, make_batch):
    make_batch(operator, 3)
    claimed = take()
    expire(claimed[1].lease.task_id)
    reap()
    settled = settle([Verdict(item.lease, AttemptOutcome.SUCCEEDED) for item in claimed])
    assert {item.lease for item in settled} == {claimed[0].lease, claimed[2].lease}


def test_an_answer_under_a_wrong_attempt_number_is_void(operator, make_batch):
    make_batch(operator, 1)
    [claimed] = take()
    for wrong in (0, 2):
        lease = Lease(claimed.lease.task_id, wrong)
        assert settle([Verdict(lease, AttemptOutcome.SUCCEEDED)]) == []
    assert not Attempt.objects.exists()


def test_a_lease_that_runs_is_not_reaped(operator, make_batch):
    make_batch(operator, 1)
    take()
    assert reap() == []


def test_a_lost_attempt_that_changed_something_is_not_run_again(operator, make_batch):
    make_batch(operator, 1)
    [claimed] = take()
    assert leases.announce_effect(claimed.lease) == leases.Effect.GRANTED
    expire(claimed.lease.task_id)
    reap()
    assert (row(claimed).state, row(claimed).failure) == ("failed", "lost")


def test_a_kind_that_must_not_be_repeated_is_not(operator, make_batch):
    item = Item({"how": "die", "replay_safe": False})
    make_batch(operator, items=[item], kind="misbehave")
    [claimed] = take()
    end(claimed, AttemptOutcome.LOST, interrupted=True)
    assert row(claimed).failure == "lost"


def test_an_effect_is_refused_once_the_lease_is_over(operator, make_batch):
    make_batch(operator, 1)
    [claimed] = take()
    expire(claimed.lease.task_id)
    assert leases.announce_effect(claimed.lease) == leases.Effect.REFUSED


def test_renewing_extends_what_is_held_and_tells_what_is_lost(operator, make_batch):
    make_batch(operator, 2)
    kept, lost = take()
    Task.objects.update(leased_until=timezone.now() + timedelta(seconds=1))
    end(lost)
    renewal = leases.renew([kept.lease, lost.lease])
    assert (renewal.renewed, renewal.lost) == ({kept.lease}, {lost.lease})
    assert row(kept).leased_until > timezone.now() + timedelta(seconds=30)


def test_handing_back_costs_nothing(operator, make_batch):
    make_batch(operator, 1, max_attempts=1)
    [claimed] = take()
    end(claimed, AttemptOutcome.RELEASED)
    task = row(claimed)
    assert (task.state, task.failures) == (TaskState.QUEUED, 0)
    assert task.attempts.get().outcome == "released"
    assert len(take()) == 1


def test_unavailable_costs_nothing_and_parks_what_needs_the_same(operator, make_batch):
    needy = [Item({"how": "need", "needs": "file:/x"}) for _ in range(3)]
    make_batch(operator, items=[*needy, Item({"how": "reject"})], kind="misbehave", max_attempts=1)
    first = take(1)[0]
    end(first, AttemptOutcome.UNAVAILABLE, resource="file:/x", error="gone")
    assert Resource.objects.values_list("name", "kind", "reason").get() == (
        "file:/x", "misbehave", "gone",
    )  # fmt: skip
    assert resources.park(["file:/x"]) == 2
    assert names(take()) == ["3"]
    assert row(first).failures == 0
    resources.mark_back("file:/x")
    assert len(take()) == 3


def test_a_probe_is_taken_over_by_one(operator):
    resources.mark_away("file:/x", "misbehave", "gone")
    assert resources.due_for_probe(["misbehave"], 5) == []
    Resource.objects.update(probe_after=timezone.now() - timedelta(seconds=1))
    assert resources.due_for_probe(["misbehave"], 5) == [("file:/x", "misbehave")]
    assert resources.due_for_probe(["misbehave"], 5) == []
    assert resources.away() == {"file:/x"}


def test_what_waits_for_a_resource_is_let_go_only_when_that_is_back(operator, make_batch):
    make_batch(operator, items=[Item({"how": "need", "needs": "file:/x"})], kind="misbehave")
    [first] = take()
    end(first, AttemptOutcome.UNAVAILABLE, resource="file:/x")
    # Upkeep of another worker, before whoever settled it came further.
    assert resources.forgotten() == []
    upkeep.every_second()
    assert row(first).waiting_for == "file:/x"
    # It looked just before that.
    assert resources.unpark("file:/x") == 0
    assert take() == []


def test_tasks_that_were_parked_as_their_resource_came_back_do_not_wait_for_ever(
    operator, make_batch
):
    make_batch(operator, items=[Item({"how": "need", "needs": "file:/x"})], kind="misbehave")
    end(take()[0], AttemptOutcome.UNAVAILABLE, resource="file:/x")
    Resource.objects.update(away_since=None)  # and there whoever found it died
    assert resources.forgotten() == ["file:/x"]
    upkeep.every_second()
    assert len(take()) == 1


def test_the_last_task_closes_its_batch_with_a_summary(operator, make_batch):
    batch = make_batch(operator, 3)
    good, bad, gone = take()
    end(good)
    end(bad, AttemptOutcome.REJECTED)
    batch.refresh_from_db()
    assert (batch.state, batch.summary) == (BatchState.OPEN, None)
    operations.cancel_task(row(gone))
    end(gone, AttemptOutcome.CANCELLED, interrupted=True)
    batch.refresh_from_db()
    assert batch.state == BatchState.DONE
    assert batch.summary == {
        "succeeded": 1,
        "failed": 1,
        "cancelled": 1,
        "failures": {"rejected": 1},
    }


def test_a_batch_that_nobody_closed_is_closed_by_upkeep(operator, make_batch):
    batch = make_batch(operator, 1)
    settle([Verdict(take()[0].lease, AttemptOutcome.SUCCEEDED)])
    unfinished_business()
    batch.refresh_from_db()
    assert batch.state == BatchState.DONE


def test_a_batch_with_unfinished_tasks_is_not_closed(operator, make_batch):
    batch = make_batch(operator, 1)
    close_finished([batch.pk])
    take()
    close_finished([batch.pk])
    batch.refresh_from_db()
    assert batch.state == BatchState.OPEN


def test_stop_on_failure_cancels_what_waits_and_lets_run_what_runs(operator, make_batch):
    batch = make_batch(operator, 4, on_failure="stop")
    bad, running = take(2)
    end(bad, AttemptOutcome.REJECTED)
    states = sorted(batch.tasks.values_list("state", flat=True))
    assert states == ["cancelled", "cancelled", "failed", "running"]
    end(running)
    batch.refresh_from_db()
    assert batch.state == BatchState.DONE


def test_what_waits_past_the_deadline_fails_as_timeout(operator, make_batch):
    batch = make_batch(operator, 2, deadline=timezone.now() + timedelta(hours=1))
    [claimed] = take(1)
    Batch.objects.update(deadline=timezone.now() - timedelta(seconds=1))
    upkeep.enforce_deadlines()
    waiting = batch.tasks.exclude(pk=claimed.lease.task_id).get()
    assert (waiting.state, waiting.failure) == ("failed", "timeout")
    end(claimed, AttemptOutcome.TIMEOUT, interrupted=True)
    assert (row(claimed).state, row(claimed).failures) == ("failed", 1)
    batch.refresh_from_db()
    assert batch.state == BatchState.DONE


def standing(**changes) -> Standing:
    plain = {
        "failures": 0,
        "max_attempts": 3,
        "replayable": True,
        "cancel_wanted": False,
        "past_deadline": False,
    }
    return Standing(**{**plain, **changes})


@pytest.mark.parametrize(
    ("asked", "outcome", "more", "state", "failure"),
    [
        ({"cancel_wanted": True}, "succeeded", {}, "succeeded", ""),
        ({"cancel_wanted": True}, "rejected", {}, "failed", "rejected"),
        ({"cancel_wanted": True}, "error", {}, "cancelled", ""),
        ({"cancel_wanted": True}, "unavailable", {"resource": "x"}, "cancelled", ""),
        ({"cancel_wanted": True}, "released", {}, "cancelled", ""),
        ({"past_deadline": True}, "unavailable", {"resource": "x"}, "failed", "timeout"),
        ({"past_deadline": True}, "error", {}, "failed", "error"),
        ({"failures": 2}, "error", {}, "failed", "error"),
        ({"replayable": False}, "lost", {"interrupted": True}, "failed", "lost"),
        ({"replayable": False}, "error", {}, "queued", ""),
        ({"replayable": False}, "released", {"interrupted": True}, "failed", "lost"),
        ({"replayable": False}, "released", {}, "queued", ""),
        ({}, "cancelled", {"interrupted": True}, "queued", ""),
        ({}, "limit", {}, "failed", "limit"),
    ],
)
def test_each_ending_follows_its_rule(asked, outcome, more, state, failure):
    verdict = Verdict(Lease(uuid4(), 1), AttemptOutcome(outcome), **more)
    ending = decide(standing(**asked), verdict)
    assert (ending.state, ending.failure) == (state, failure)


def test_every_ending_is_an_allowed_move():
    for outcome in AttemptOutcome:
        for bits in range(32):
            asked = standing(
                failures=2 * (bits & 1),
                replayable=bool(bits & 2),
                cancel_wanted=bool(bits & 4),
                past_deadline=bool(bits & 8),
            )
            verdict = Verdict(Lease(uuid4(), 1), outcome, resource="x", interrupted=bool(bits & 16))
            assert decide(asked, verdict).state in MOVES[TaskState.RUNNING]

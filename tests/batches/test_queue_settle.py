"""How attempts end, and what that sets going."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from batches import operations, upkeep
from batches.models import Attempt, Batch, Resource, Task
from batches.queue import lease as leases
from batches.queue import resources, wishes
from batches.queue.claim import Lease
from batches.queue.closing import (
    close_finished,
    follow_up,
    overlooked_dependents,
    unfinished_business,
)
from batches.queue.settle import reap, settle
from batches.queue.verdicts import Standing, Verdict, backoff, decide
from batches.states import MOVES, AttemptOutcome, BatchState, Failure, TaskState
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
    assert leases.announce_effect(claimed.lease)
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
    assert not leases.announce_effect(claimed.lease)


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
    resources.mark_away("file:/x", "misbehave", "gone")
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


def test_a_late_unavailable_does_not_park_a_task_for_ever(operator, make_batch):
    make_batch(operator, items=[Item({"how": "need", "needs": "file:/x"})], kind="misbehave")
    end(take()[0], AttemptOutcome.UNAVAILABLE, resource="file:/x")
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


# -- dependencies ---------------------------------------------------------------------------------


def chain(*links: tuple[str, tuple[str, ...]]):
    return [Item({}, id=name, depends_on=needed) for name, needed in links]


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


# -- cancel and retry -----------------------------------------------------------------------------


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


# -- upkeep ---------------------------------------------------------------------------------------


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
    wishes.seal(batch.pk)
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

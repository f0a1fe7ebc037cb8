"""Random histories of the queue, on real rows, against plain dictionaries that say what is right.

Budgets are small, one or two attempts: with larger ones a planted fault went unseen. A run on a
developer's machine searches anew; under CI=true it repeats the same histories, so that a red build
is red again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, models, transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from batches import operations
from batches.lanes import lane_of
from batches.models import Attempt, Batch, Queue, Task
from batches.queue import lease as leases
from batches.queue import resources
from batches.queue.claim import Lease
from batches.queue.closing import follow_up, overlooked_dependents, unfinished_business
from batches.queue.settle import reap, settle
from batches.queue.verdicts import Settled, Verdict
from batches.states import AttemptOutcome
from batches.submission import Item, Submission
from tests.batches.oracle import HOPELESS, UNFINISHED, Group, Job, Route
from tests.queueing import expire, names, skip_backoff, take

HISTORIES = settings(
    # PostgreSQL needs three times as long, and is asked for what SQLite cannot show elsewhere.
    max_examples=120 if connection.vendor == "sqlite" else 40,
    stateful_step_count=40,
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    database=None,
    phases=set(settings.default.phases) - {Phase.explain},  # which takes minutes
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
QUEUE = "default"
RESOURCE = "model:x"
OUTCOMES = [outcome.value for outcome in AttemptOutcome]
SHAPES: list[tuple[int, list[tuple[int, int]]]] = [
    (1, []),
    (3, []),
    (2, [(0, 1)]),
    (3, [(0, 1), (1, 2)]),
    (3, [(0, 2), (1, 2)]),
    (4, [(0, 1), (0, 2), (1, 3), (2, 3)]),
]
"""How many tasks a batch has, and which waits for which."""
PICK = st.integers(0, 23)


class Look:
    """What is looked at after every step: a few columns, by a statement that is made once.

    To make it anew takes Django longer than the database needs to answer. Values are as the
    database's driver gives them: text, numbers and whether there is any at all are the same.
    """

    def __init__(self, rows: models.QuerySet[Any], *columns: str) -> None:
        self.rows = rows.values_list(*columns)
        self.names = [name.rpartition("__")[2] for name in columns]

    @cached_property
    def statement(self) -> tuple[str, tuple[Any, ...]]:
        return self.rows.query.sql_with_params()

    def __call__(self) -> list[SimpleNamespace]:
        with connection.cursor() as cursor:
            cursor.execute(*self.statement)
            rows = cursor.fetchall()
        return [SimpleNamespace(**dict(zip(self.names, row, strict=True))) for row in rows]


TASKS = Look(
    Task.objects.order_by(), "custom_id", "state", "failure", "attempt", "failures", "run_after",
    "waiting_for", "finished_at", "unmet_dependencies", "priority", "lane",
)  # fmt: skip
ATTEMPTS = Look(Attempt.objects.order_by("number"), "task__custom_id", "number", "outcome")
BATCHES = Look(
    Batch.objects.order_by(), "number", "state", "summary", "paused_at", "cancel_requested_at"
)
PRIORITIES = st.sampled_from([None, 0, 5, 10])


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.undone = transaction.atomic()
        self.undone.__enter__()
        self.groups: list[Group] = []
        self.spent: list[Lease] = []
        self.queue = Route(priority=5)
        self.owner = User.objects.create(username="machine", is_superuser=True)

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.undone.__exit__(None, None, None)

    @property
    def jobs(self) -> list[Job]:
        return [job for group in self.groups for job in group.jobs]

    def running(self) -> list[Job]:
        return [job for job in self.jobs if job.state == "running"]

    def any(self, states: set[str]) -> bool:
        return any(job.state in states for job in self.jobs)

    def some(self, jobs: list[Job], picks: set[int]) -> list[Job]:
        return [jobs[index] for index in sorted({pick % len(jobs) for pick in picks})]

    # -- submit and claim -------------------------------------------------------------------------

    @initialize(data=st.data())
    def first_batch(self, data: st.DataObject) -> None:
        self.submit(data)

    @precondition(lambda self: len(self.groups) < 4)
    @rule(data=st.data())
    def submit(self, data: st.DataObject) -> None:
        size, edges = data.draw(st.sampled_from(SHAPES), "shape")
        if data.draw(st.booleans(), "dependents first"):
            edges = [(size - 1 - low, size - 1 - high) for low, high in edges]
        own = data.draw(st.lists(PRIORITIES, min_size=size, max_size=size), "priorities")
        parallel = data.draw(st.sampled_from([None, 1, 2]), "parallel")
        max_attempts = data.draw(st.integers(1, 2), "max_attempts")
        priority = data.draw(PRIORITIES, "priority")
        stop = data.draw(st.booleans(), "stop")
        items = [
            Item(
                {},
                id=f"{len(self.groups)}.{at}",
                priority=own[at],
                depends_on=tuple(f"{len(self.groups)}.{a}" for a, b in edges if b == at),
            )
            for at in range(size)
        ]
        row = operations.submit(
            self.owner,
            Submission(
                kind="noop",
                items=items,
                parallel=parallel,
                max_attempts=max_attempts,
                priority=priority,
                on_failure="stop" if stop else "continue",
            ),
        )
        group = Group(row.pk, row.number, self.queue, parallel, max_attempts, stop, priority)
        group.jobs = [Job(group, items[at].id, at, [], own[at]) for at in range(size)]
        for low, high in edges:
            group.jobs[high].needs.append(group.jobs[low])
        self.groups.append(group)

    def claimed(self, number: int) -> list[Job]:
        expected: list[Job] = []
        in_line = sorted(
            (job for job in self.jobs if job.ready),
            key=lambda job: (-job.priority, job.batch.number, job.position),
        )
        for job in in_line:
            group = job.batch
            open_to_claims = not (group.paused or group.cancel)
            used = len(group.having("running"))
            if open_to_claims and (group.parallel is None or used < group.parallel):
                job.state = "running"
                job.attempt += 1
                expected.append(job)
            if len(expected) == number:
                break
        claimed = take(number)
        assert names(claimed) == [job.name for job in expected]
        for job, item in zip(expected, claimed, strict=True):
            assert item.lease.attempt == job.attempt
            job.lease = item.lease
        return expected

    @rule(number=st.integers(1, 4))
    def claim(self, number: int) -> None:
        self.claimed(number)

    @rule(outcomes=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=4))
    def work(self, outcomes: list[str]) -> None:
        """Most of what happens to a queue: tasks are claimed, and end one way or another."""
        self.settle_all(dict(zip(self.claimed(len(outcomes)), outcomes, strict=False)))

    @rule(
        outcomes=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=4),
        pick=PICK,
        whole=st.booleans(),
    )
    def cancelled_work(self, outcomes: list[str], pick: int, whole: bool) -> None:
        """The same, with a cancel while they run: by chance alone that is rare."""
        claimed = self.claimed(len(outcomes))
        if claimed:
            self.ask_to_cancel(claimed[pick % len(claimed)], whole)
        self.settle_all(dict(zip(claimed, outcomes, strict=False)))

    # -- the end of attempts ----------------------------------------------------------------------

    def end(self, job: Job, outcome: str) -> None:
        assert job.lease is not None
        self.spent.append(job.lease)
        job.ended.append((job.attempt, outcome))
        job.lease = None
        if outcome == "succeeded":
            job.finish("succeeded")
        elif outcome in {"rejected", "limit"}:
            job.finish("failed", outcome)
        elif job.cancel or job.batch.cancel:
            job.finish("cancelled")
        elif outcome in {"released", "cancelled", "unavailable"}:
            job.finish("queued")
            job.away = outcome == "unavailable"
        else:
            job.failures += 1
            job.finish("queued")
            job.later = True
            if job.failures == job.batch.max_attempts:
                job.finish("failed", outcome)

    def follow(self, jobs: list[Job], settled: list[Settled], *, crashed: bool) -> None:
        """What follows the end of attempts; after a crash, upkeep must come to the same."""
        for job in jobs:
            job.batch.failed_since_retry |= job.state == "failed"
        if crashed:
            self.upkeep()
            return
        follow_up(settled)
        for group in {job.batch for job in jobs if job.state not in UNFINISHED}:
            group.fail_hopeless()
            if group.stop and any(job.batch is group and job.state == "failed" for job in jobs):
                group.cancel_waiting()
            group.close()

    @rule()
    def upkeep(self) -> None:
        unfinished_business()
        overlooked_dependents()
        for group in self.groups:
            if group.cancel or (group.stop and group.failed_since_retry):
                group.cancel_waiting()
            group.fail_hopeless()
            group.close()

    def settle_all(
        self, outcomes: dict[Job, str], late: Sequence[Lease] = (), *, crashed: bool = False
    ) -> None:
        """Settle tasks together with late answers, which must not count."""
        verdicts = [Verdict(lease, AttemptOutcome.SUCCEEDED) for lease in late] + [
            Verdict(job.lease, AttemptOutcome(outcome), error=outcome, resource=RESOURCE)
            for job, outcome in outcomes.items()
        ]
        settled = settle(verdicts[::-1] if len(late) % 2 else verdicts)
        assert {item.lease for item in settled} == {job.lease for job in outcomes}
        for job, outcome in outcomes.items():
            self.end(job, outcome)
        self.follow(list(outcomes), settled, crashed=crashed)

    @precondition(lambda self: self.running())
    @rule(
        picks=st.dictionaries(st.integers(0, 9), st.sampled_from(OUTCOMES), min_size=1),
        late=st.integers(0, 3),
        crashed=st.booleans(),
    )
    def settle(self, picks: dict[int, str], late: int, crashed: bool) -> None:
        running = self.running()
        outcomes = {running[pick % len(running)]: outcome for pick, outcome in picks.items()}
        self.settle_all(outcomes, self.spent[-late:] if late else (), crashed=crashed)

    @precondition(lambda self: self.running())
    @rule(picks=st.sets(st.integers(0, 9)), crashed=st.booleans())
    def reap(self, picks: set[int], crashed: bool) -> None:
        lost = self.some(self.running(), picks)
        expire(*(job.lease.task_id for job in lost))
        reaped = reap()
        assert {item.lease for item in reaped} == {job.lease for job in lost}
        for job in lost:
            self.end(job, "lost")
        self.follow(lost, reaped, crashed=crashed)

    @precondition(lambda self: self.spent)
    @rule(data=st.data(), outcome=st.sampled_from(list(AttemptOutcome)))
    def late_answers_and_renewals(self, data: st.DataObject, outcome: AttemptOutcome) -> None:
        held = {job.lease for job in self.running()}
        again = {lease.task_id for lease in held if lease}
        # Of a task that runs again, if there is one: that answer could be taken for the new one's.
        late = [lease for lease in self.spent if lease.task_id in again] or self.spent
        assert settle([Verdict(data.draw(st.sampled_from(late)), outcome)]) == []
        known = [*held, *self.spent]
        assert leases.renew(known) == leases.Renewal(frozenset(held), frozenset(self.spent))
        asked = {job.lease for job in self.running() if job.cancel or job.batch.cancel}
        assert leases.cancel_wanted(known) == asked

    @precondition(lambda self: any(job.later or job.away for job in self.jobs))
    @rule()
    def what_is_waited_for_comes(self) -> None:
        skip_backoff()
        assert resources.mark_back(RESOURCE) == sum(job.away for job in self.jobs)
        for job in self.jobs:
            job.later = job.away = False

    # -- what people ask --------------------------------------------------------------------------

    def one_of(self, pick: int, states: set[str]) -> Job:
        fit = [job for job in self.jobs if job.state in states]
        return fit[pick % len(fit)]

    @precondition(lambda self: self.any(UNFINISHED))
    @rule(pick=PICK, whole=st.booleans())
    def cancel(self, pick: int, whole: bool) -> None:
        self.ask_to_cancel(self.one_of(pick, UNFINISHED), whole)

    def ask_to_cancel(self, job: Job, whole: bool) -> None:
        self.asked("cancel", job, whole)
        if whole:
            job.batch.cancel = True
            job.batch.cancel_waiting()
        elif job.state == "running":
            job.cancel = True
        else:
            job.finish("cancelled")
            job.batch.fail_hopeless()
        job.batch.close()

    @precondition(lambda self: self.any(HOPELESS))
    @rule(pick=PICK, whole=st.booleans())
    def retry(self, pick: int, whole: bool) -> None:
        job = self.one_of(pick, HOPELESS)
        group = job.batch
        if group.cancel and not group.done:
            with pytest.raises(operations.Conflict):
                self.asked("retry", job, whole)
            return
        states = ["failed", "cancelled"] if group.cancel else ["failed"]
        chosen = group.having(*states) if whole else [job]
        assert self.asked("retry", job, whole) == (len(chosen) if whole else None)
        reached = list(chosen)
        for each in reached:
            if each in chosen or each.failure == "dependency":
                each.again()
            reached += [x for x in group.jobs if each in x.needs and x not in reached]
        if chosen:
            group.cancel = group.failed_since_retry = False
        group.fail_hopeless()
        group.close()

    def asked(self, verb: str, job: Job, whole: bool) -> object:
        if whole:
            return getattr(operations, f"{verb}_batch")(Batch.objects.get(pk=job.batch.id))
        return getattr(operations, f"{verb}_task")(Task.objects.get(custom_id=job.name))

    @precondition(lambda self: self.any({"queued"}))
    @rule(pick=PICK)
    def pause_or_resume(self, pick: int) -> None:
        job = self.one_of(pick, {"queued"})
        self.asked("resume" if job.batch.paused else "pause", job, True)
        job.batch.paused = not job.batch.paused

    @rule(pick=PICK, of=st.sampled_from(["queue", "batch", "task"]), priority=PRIORITIES)
    def change_priority(self, pick: int, of: str, priority: int | None) -> None:
        job = self.jobs[pick % len(self.jobs)]
        if of == "batch":
            operations.change_batch(Batch.objects.get(pk=job.batch.id), priority=priority)
            job.batch.own_priority = priority
        elif of == "queue":
            self.queue.priority = 7 if priority is None else priority
            operations.change_queue(Queue.objects.get(pk=QUEUE), priority=self.queue.priority)
        elif job.state in UNFINISHED and priority is not None:
            operations.change_task(Task.objects.get(custom_id=job.name), priority=priority)
            job.own_priority = priority

    # -- what always holds ------------------------------------------------------------------------

    @invariant()
    def tasks_are_what_they_must_be(self) -> None:
        rows = {row.custom_id: row for row in TASKS()}
        assert len(rows) == len(self.jobs)
        for job in self.jobs:
            row = rows[job.name]
            found = (row.state, row.failure, row.attempt, row.failures)
            assert found == (job.state, job.failure, job.attempt, job.failures), job.name
            assert (row.run_after is not None, row.waiting_for) == (job.later, RESOURCE * job.away)
            assert (row.finished_at is None) == (job.state in UNFINISHED)
            if job.state == "queued":
                assert row.unmet_dependencies == job.unmet, job.name
            if job.state in UNFINISHED:
                assert (row.priority, row.lane) == (
                    job.priority,
                    lane_of(job.priority, job.batch.number),
                )

    @invariant()
    def attempts_tell_the_story(self) -> None:
        """One for each number that ended, and none twice: every attempt is settled at most once."""
        told: dict[str, list[tuple[int, str]]] = {job.name: [] for job in self.jobs}
        for attempt in ATTEMPTS():
            told[attempt.custom_id].append((attempt.number, attempt.outcome))
        assert told == {job.name: job.ended for job in self.jobs}
        for job in self.jobs:
            numbers = [number for number, _ in job.ended]
            assert numbers == list(range(1, job.attempt + (job.state != "running")))
            assert [outcome for _, outcome in job.ended].count("succeeded") <= 1

    @invariant()
    def limits_hold(self) -> None:
        for group in self.groups:
            assert group.parallel is None or len(group.having("running")) <= group.parallel

    @invariant()
    def a_batch_is_done_when_all_its_tasks_are_finished(self) -> None:
        rows = {row.number: row for row in BATCHES()}
        for group in self.groups:
            row = rows[group.number]
            assert (row.state == "done") == group.done == (not group.having(*UNFINISHED))
            summary = row.summary and json.loads(row.summary)
            assert summary == (group.summary() if group.done else None)
            asked = (row.paused_at is not None, row.cancel_requested_at is not None)
            assert asked == (group.paused, group.cancel)


@pytest.mark.long
@pytest.mark.timeout(900)  # of a red run, most of it spent on finding its shortest history
def test_no_history_of_the_queue_leaves_a_row_in_a_state_it_must_not_be_in(db):
    run_state_machine_as_test(QueueMachine, settings=HISTORIES)

"""What the end of an attempt does to its task: pure rules, no database."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID

from agents.contract import JSON
from batches.queue.claim import Lease
from batches.states import RETRIED, AttemptOutcome, Failure, TaskState

BACKOFF_BASE, BACKOFF_FACTOR, BACKOFF_CAP = 1.0, 2.0, 600.0
"""Seconds."""

FAILURE_OF = {
    AttemptOutcome.REJECTED: Failure.REJECTED,
    AttemptOutcome.ERROR: Failure.ERROR,
    AttemptOutcome.TIMEOUT: Failure.TIMEOUT,
    AttemptOutcome.LIMIT: Failure.LIMIT,
    AttemptOutcome.LOST: Failure.LOST,
}


@dataclass(frozen=True, slots=True)
class File:
    """A file already in the storage, to be kept as an artefact if the verdict counts."""

    name: str
    media_type: str
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ended, as its supervisor saw it."""

    lease: Lease
    outcome: AttemptOutcome
    result: JSON | None = None
    error: str = ""
    seconds: float = 0.0
    """How long it ran."""
    retry_in: float | None = None
    """Seconds to wait before the next attempt, in place of the usual backoff."""
    resource: str = ""
    """With ``unavailable``: what is away."""
    interrupted: bool = False
    """It was stopped somewhere in the middle: running it again repeats what it had done."""
    sandbox: str = ""
    files: tuple[File, ...] = ()

    def with_files(self, files: tuple[File, ...], problem: str) -> Verdict:
        """The verdict with the files that were stored for it.

        ``problem`` says why they could not be: an answer without its files is no answer.
        """
        if not problem:
            return replace(self, files=files)
        if self.outcome not in {AttemptOutcome.SUCCEEDED, AttemptOutcome.REJECTED}:
            return replace(self, error=f"{self.error} {problem}".strip())
        return replace(self, outcome=AttemptOutcome.ERROR, result=None, error=problem)


@dataclass(frozen=True, slots=True)
class Settled:
    """A verdict that counted, with what those who follow it up need to know."""

    lease: Lease
    batch_id: UUID
    state: TaskState
    failure: str
    error: str
    delay: float | None
    has_dependents: bool
    stops_batch: bool
    others_wait: bool
    """Tasks of its batch waited that nobody had been told of: the batch cannot be done yet."""


class Also(Protocol):
    """Writes something more in the transaction of a settle, of the verdicts that count."""

    def write(self, entries: Sequence[tuple[Verdict, Settled]]) -> None:
        """All of them, after the rows."""

    def insert(
        self, verdict: Verdict, state: TaskState, failure: str
    ) -> tuple[str, list[Any]] | None:
        """The same of one verdict, as ``INSERT … SELECT … FROM counted`` and its parameters.

        For PostgreSQL alone. ``counted`` has one row if the verdict counts, and none if it is void.
        None: there is nothing to write.
        """

    def counted(self, settled: Sequence[Settled]) -> None:
        """What was committed, before anything else follows it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The task's row as it stands when the verdict arrives, and its batch's wishes."""

    failures: int
    max_attempts: int
    replayable: bool
    cancel_wanted: bool
    past_deadline: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """What is written."""

    state: TaskState
    failure: str = ""
    failures: int = 0
    delay: float | None = None
    waiting_for: str = ""


def answered(outcome: AttemptOutcome) -> tuple[TaskState, str] | None:
    """State and failure where the outcome says yes or no, whatever else was asked meanwhile."""
    if outcome == AttemptOutcome.SUCCEEDED:
        return TaskState.SUCCEEDED, ""
    if outcome in {AttemptOutcome.REJECTED, AttemptOutcome.LIMIT}:
        return TaskState.FAILED, FAILURE_OF[outcome]
    return None


def decide(standing: Standing, verdict: Verdict) -> Ending:
    """The task's next state.

    What is no answer gives way to a cancel.
    """
    outcome, used = verdict.outcome, standing.failures
    if answer := answered(outcome):
        return Ending(*answer, failures=used)
    if standing.cancel_wanted:
        return Ending(TaskState.CANCELLED, failures=used)
    if outcome == AttemptOutcome.UNAVAILABLE:
        return _unavailable(standing, verdict.resource)
    if outcome in {AttemptOutcome.RELEASED, AttemptOutcome.CANCELLED}:
        # A cancel that nobody wants any more was withdrawn by a retry: the task goes back.
        if verdict.interrupted and not standing.replayable:
            return Ending(TaskState.FAILED, Failure.LOST, failures=used)
        return Ending(TaskState.QUEUED, failures=used)
    return _failed_attempt(standing, verdict, FAILURE_OF[outcome])


def _unavailable(standing: Standing, resource: str) -> Ending:
    if standing.past_deadline:
        return Ending(TaskState.FAILED, Failure.TIMEOUT, failures=standing.failures)
    return Ending(TaskState.QUEUED, failures=standing.failures, waiting_for=resource)


def _failed_attempt(standing: Standing, verdict: Verdict, failure: Failure) -> Ending:
    failures = standing.failures + 1
    again = (
        failure in RETRIED
        and failures < standing.max_attempts
        and not standing.past_deadline
        and (standing.replayable or not verdict.interrupted)
    )
    if not again:
        return Ending(TaskState.FAILED, failure, failures=failures)
    delay = backoff(failures) if verdict.retry_in is None else verdict.retry_in
    return Ending(TaskState.QUEUED, failures=failures, delay=delay)


def backoff(failures: int) -> float:
    """Seconds before the next attempt after ``failures`` of them: exponential, with full jitter
    over the upper half, so that tasks which failed together do not come back together."""
    # The exponent is bounded before the power is taken: 2.0 ** 1024 overflows.
    whole = min(BACKOFF_CAP, BACKOFF_BASE * BACKOFF_FACTOR ** min(failures - 1, 32))
    return whole * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret

"""What tasks and batches must be, in plain objects that know nothing of the database."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from batches.queue.claim import Lease

UNFINISHED = {"queued", "running"}
HOPELESS = {"failed", "cancelled"}


@dataclass
class Route:
    """What a queue must be."""

    priority: int


@dataclass(eq=False)
class Job:
    """What a task must be."""

    batch: Group
    name: str
    position: int
    needs: list[Job]
    own_priority: int | None = None
    state: str = "queued"
    failure: str = ""
    attempt: int = 0
    failures: int = 0
    later: bool = False
    away: bool = False
    cancel: bool = False
    ended: list[tuple[int, str]] = field(default_factory=list)
    lease: Lease | None = None

    @property
    def priority(self) -> int:
        return self.batch.priority if self.own_priority is None else self.own_priority

    @property
    def unmet(self) -> bool:
        return any(needed.state != "succeeded" for needed in self.needs)

    @property
    def ready(self) -> bool:
        return self.state == "queued" and not (self.later or self.away or self.unmet)

    def finish(self, state: str, failure: str = "") -> None:
        self.state, self.failure, self.later, self.away = state, failure, False, False

    def again(self) -> None:
        self.finish("queued")
        self.failures, self.cancel = 0, False


@dataclass(eq=False)
class Group:
    """What a batch must be."""

    id: UUID
    number: int
    queue: Route
    parallel: int | None
    max_attempts: int
    stop: bool
    own_priority: int | None
    jobs: list[Job] = field(default_factory=list)
    done: bool = False
    paused: bool = False
    cancel: bool = False
    failed_since_retry: bool = False

    @property
    def priority(self) -> int:
        return self.queue.priority if self.own_priority is None else self.own_priority

    def having(self, *states: str) -> list[Job]:
        return [job for job in self.jobs if job.state in states]

    def cancel_waiting(self) -> None:
        for job in self.having("queued"):
            job.finish("cancelled")

    def fail_hopeless(self) -> None:
        while doomed := [
            job
            for job in self.having("queued")
            if any(needed.state in HOPELESS for needed in job.needs)
        ]:
            for job in doomed:
                job.finish("failed", "dependency")

    def close(self) -> None:
        self.done = not self.having(*UNFINISHED)

    def summary(self) -> dict[str, object]:
        counts = Counter(job.state for job in self.jobs)
        return {
            **{state: counts[state] for state in ("succeeded", "failed", "cancelled")},
            "failures": dict(Counter(job.failure for job in self.jobs if job.failure)),
        }

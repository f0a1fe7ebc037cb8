"""Driving the queue by hand: a claimant with room for everything, and verdicts of each sort."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models.functions import Now

from batches.models import Task
from batches.queue.claim import Claimed, claim
from batches.queue.closing import follow_up
from batches.queue.schedule import wake_due
from batches.queue.settle import settle
from batches.queue.verdicts import Settled, Verdict
from batches.queue.walk import Claimant
from batches.states import AttemptOutcome
from batches.submission import Item


@dataclass
class Places:
    """Room for so many tasks, of whatever kind."""

    free: int = 1000
    kinds: set[str] = field(default_factory=lambda: {"noop", "sleep", "append", "misbehave"})

    def left(self, kind: str) -> int:
        return self.free if kind in self.kinds else 0

    def take(self, kind: str, number: int) -> None:
        self.free -= number

    def full(self) -> bool:
        return self.free <= 0


def take(
    number: int = 1000,
    *,
    worker: str = "w1",
    kinds: Collection[str] = (),
    backend: str = "database",
    **claimant: Any,
) -> list[Claimed]:
    """Claim up to so many tasks."""
    places = Places(number, set(kinds)) if kinds else Places(number)
    return claim(Claimant(worker=worker, backend=backend, **claimant), places)


def names(claimed: list[Claimed]) -> list[str]:
    """The custom ids, in the order of the claim."""
    found = dict(Task.objects.values_list("pk", "custom_id"))
    return [found[item.lease.task_id] for item in claimed]


def end(
    claimed: Claimed, outcome: AttemptOutcome = AttemptOutcome.SUCCEEDED, **more: Any
) -> list[Settled]:
    """Settle one attempt and do what follows."""
    settled = settle([Verdict(claimed.lease, outcome, **more)])
    follow_up(settled)
    return settled


def expire(*tasks: UUID) -> None:
    """Let the leases of these tasks be over."""
    Task.objects.filter(pk__in=tasks).update(leased_until=Now() - timedelta(seconds=1))


def skip_backoff() -> None:
    """Let every backoff be over."""
    Task.objects.filter(state="queued", run_after__isnull=False).update(
        run_after=Now() - timedelta(seconds=1)
    )
    wake_due()


def chain(*links: tuple[str, tuple[str, ...]]):
    return [Item({}, id=name, depends_on=needed) for name, needed in links]

"""Work that no request asks for: reaping, repeating follow-ups, deadlines, retention.

Runs in every worker's upkeep thread. Each step may be run by any number of processes at once; the
dearer ones are taken over by one at a time.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone

from batches import idempotency, mirror, registry
from batches.backends.database import wake
from batches.models import Batch, Chore, Start, Worker
from batches.queue import resources
from batches.queue.closing import (
    close_finished,
    follow_up,
    overlooked_dependents,
    unfinished_business,
)
from batches.queue.deadlines import fail_late
from batches.queue.removal import remove_batch
from batches.queue.settle import reap
from batches.queue.verdicts import Settled
from batches.states import BatchState, WorkerState

logger = logging.getLogger(__name__)

LEFTOVER_AFTER = timedelta(hours=1)
"""An unsealed batch older than this belongs to a submission that died."""
FORGET_WORKERS_AFTER = timedelta(days=1)
CLEANUP, CLEANUP_TURN = "cleanup", 600.0
"""Seconds after which a cleanup that says nothing more is taken for dead."""
RETENTION, LEFTOVERS = "retention", "leftovers"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CleanupBusy(Exception):
    """Another process is deleting old batches already."""


def reap_lost() -> set[tuple[str, UUID]]:
    """End the attempts whose worker let the lease run out, and do what follows.

    Returns kinds and workspaces in which they may have left something to clear up: nobody who
    knew what they did is left.
    """
    left: set[tuple[str, UUID]] = set()
    while reaped := reap():
        logger.warning("%d attempts were lost with their worker", len(reaped))
        follow_up(reaped)
        wake()
        left |= _untidied(reaped)
    return left


def _untidied(reaped: Iterable[Settled]) -> set[tuple[str, UUID]]:
    tidy = [name for name, kind in registry.kinds().items() if kind.tidy]
    batches = Batch.objects.filter(
        pk__in={one.batch_id for one in reaped}, kind__in=tidy, workspace__isnull=False
    )
    return set(batches.values_list("kind", "workspace"))


def every_second() -> None:
    """What must not wait: deadlines, parked tasks whose resource is back, chores that are due."""
    for name in resources.forgotten():
        if resources.unpark(name):
            wake()
    enforce_deadlines()
    for name in _due(CHORES):
        seconds, work = CHORES[name]
        if _take(name, seconds):
            work()


def _due(names: Iterable[str]) -> list[str]:
    """Which of these are due or were never done. Only looks: most of the time there is none."""
    not_due = set(Chore.objects.filter(due_at__gt=Now()).values_list("name", flat=True))
    return [name for name in names if name not in not_due]


def _take(name: str, seconds: float) -> bool:
    """Take a chore over if it is due; no two callers get the same turn."""
    Chore.objects.get_or_create(pk=name, defaults={"due_at": EPOCH})
    changed = Chore.objects.filter(pk=name, due_at__lte=Now()).update(
        due_at=Now() + timedelta(seconds=seconds)
    )
    return changed == 1


def repeat_follow_ups() -> None:
    """Repeat what processes that died may have left undone, and wake whoever can now go on."""
    unfinished_business()
    wake()


def repeat_dependents() -> None:
    """The same for what waits for other tasks; dearer, so less often."""
    overlooked_dependents()
    if away := resources.away():
        resources.park(away)


def mirror_finished() -> None:
    """Let Celery's records of finished batches say what the rows say, where there is a broker."""
    if settings.CELERY_BROKER_URL:
        mirror.repair()


def enforce_deadlines() -> None:
    """Fail what still waits in batches whose deadline has passed."""
    late = Batch.objects.filter(state=BatchState.OPEN, deadline__lte=Now(), sealed_at__isnull=False)
    for batch in list(late.values_list("pk", flat=True)):
        while failed := fail_late(batch):
            follow_up(failed)
        close_finished([batch])


def forget() -> None:
    """Drop rows that only mattered for a while."""
    idempotency.forget_old()
    Start.objects.filter(at__lt=Now() - timedelta(seconds=120)).delete()
    Worker.objects.filter(seen_at__lt=Now() - FORGET_WORKERS_AFTER).delete()
    Worker.objects.filter(
        state=WorkerState.STOPPED, seen_at__lt=Now() - timedelta(hours=1)
    ).delete()


def deletions() -> Iterator[None]:
    """Delete what submissions that died left behind, and once an hour what RETENTION_DAYS allows.

    Yields after each chunk, so that the caller can see to what must not wait, or stop.
    """
    due = _due((LEFTOVERS, RETENTION))
    if LEFTOVERS in due and _take(LEFTOVERS, 60):
        leftovers = Batch.objects.filter(
            sealed_at__isnull=True, created_at__lt=Now() - LEFTOVER_AFTER
        )
        for batch in list(leftovers.values_list("pk", flat=True)):
            for _ in remove_batch(batch):
                yield
    if settings.RETENTION_DAYS and RETENTION in due and _take(RETENTION, 3600):
        with contextlib.suppress(CleanupBusy):
            for removed in cleanup(timedelta(days=settings.RETENTION_DAYS)):
                if removed:
                    logger.info("deleted the old batch %s", removed)
                yield


CHORES: dict[str, tuple[float, Callable[[], None]]] = {
    "follow-ups": (5.0, repeat_follow_ups),
    "dependents": (30.0, repeat_dependents),
    "forget": (60.0, forget),
    "mirror": (2.0, mirror_finished),
}
"""Name → seconds between turns, and the work."""


def cleanup(older_than: timedelta) -> Iterator[UUID | None]:
    """Delete finished batches whose end is longer ago, one after the other.

    Yields a batch's id once it has gone, None after each chunk of it before. A batch that an open
    one comes after is kept until that one is finished.

    Raises:
        CleanupBusy: another process is at it.
    """
    if not _take(CLEANUP, CLEANUP_TURN):
        raise CleanupBusy("Another process is deleting old batches already.")
    try:
        yield from _cleanup(older_than)
    finally:
        Chore.objects.filter(pk=CLEANUP).update(due_at=Now())


def _cleanup(older_than: timedelta) -> Iterator[UUID | None]:
    before = timezone.now() - older_than
    old = Batch.objects.filter(state=BatchState.DONE, finished_at__lt=before)
    for batch in list(old.order_by("number").values_list("pk", flat=True)):
        removed = False
        for _ in remove_batch(batch, finished_before=before):
            removed = True
            Chore.objects.filter(pk=CLEANUP).update(due_at=Now() + timedelta(seconds=CLEANUP_TURN))
            yield None
        if removed:
            yield batch

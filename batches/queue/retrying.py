"""Queueing again what failed or was cancelled, and the batches that failed because of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from batches.models import Batch, Task
from batches.queue import sql
from batches.queue.closing import close_finished
from batches.queue.dependencies import recompute_after, revive_dependents
from batches.queue.priorities import inherit
from batches.queue.wishes import Also, Conflict, nothing, sealed
from batches.states import BatchState, Failure, TaskState

REOPENED: dict[str, Any] = {
    "state": BatchState.OPEN,
    "finished_at": None,
    "summary": None,
    "mirrored_at": None,
}


def retry(
    batch: UUID,
    *,
    failures: Iterable[str] = (),
    tasks: Iterable[UUID] | None = None,
    also: Also = nothing,
) -> list[UUID]:
    """Queue failed and cancelled tasks of a batch again, with a fresh full budget.

    ``failures`` keeps to those reasons, ``tasks`` to those ids. The attempt number only grows: it
    fences leases, and a reset would let a worker of the first run settle the second one.

    In chunks; a cancel that comes in between ends it, and what fails again meanwhile stays so.
    ``also`` is done with the first.
    """
    wish = _Retry(list(failures), None if tasks is None else list(tasks), also)
    queued: list[UUID] = []
    while chunk := _retry_some(batch, wish, queued):
        queued += chunk
        if len(chunk) < sql.CHUNK:
            break
    if not queued:
        return []
    # It may have been given another priority since they ended.
    inherit(batch)
    _revive_followers(batch)
    # What was retried may wait for another task that failed: it may all be over at once.
    close_finished([batch])
    return queued


@dataclass(slots=True)
class _Retry:
    """What is to be retried, and what was true when that began."""

    failures: list[str]
    tasks: list[UUID] | None
    also: Also
    began: datetime | None = None
    states: tuple[str, ...] = ()


def _retry_some(batch: UUID, wish: _Retry, before: Sequence[UUID]) -> list[UUID]:
    with sealed(batch) as row:
        if before and row.cancel_requested_at:
            return []
        if row.cancel_requested_at and row.state == BatchState.OPEN:
            raise Conflict("The batch is being cancelled: retry it once that is done.")
        if not before:
            whole = wish.tasks is None and not wish.failures
            only_failed = whole and not row.cancel_requested_at
            wish.states = ("failed",) if only_failed else ("failed", "cancelled")
            wish.began = Batch.objects.values_list(Now(), flat=True).get(pk=batch)
        ids = _retriable(batch, wish, before[-1] if before else None)
        if not ids:
            return []
        _queue_again(ids)
        revive_dependents(ids)
        reopened: dict[str, Any] = dict(REOPENED)
        if not before:
            # Not by later chunks: what failed since may have stopped the batch.
            reopened |= {"cancel_requested_at": None, "retried_at": Now()}
        Batch.objects.filter(pk=batch).update(**reopened)
        if not before:
            wish.also()
    return ids


def _retriable(batch: UUID, wish: _Retry, after: UUID | None) -> list[UUID]:
    """The next chunk, in the order of the ids, locked."""
    chosen = Task.objects.filter(batch=batch, state__in=wish.states).order_by("pk")
    if wish.failures:
        chosen = chosen.filter(failure__in=wish.failures)
    if wish.tasks is not None:
        chosen = chosen.filter(pk__in=wish.tasks)
    if after is not None:
        chosen = chosen.filter(pk__gt=after, finished_at__lte=wish.began)
    return list(chosen.select_for_update(of=("self",)).values_list("pk", flat=True)[: sql.CHUNK])


def _queue_again(ids: Sequence[UUID]) -> None:
    sql.change(
        f"""
        UPDATE {sql.TASK} SET state = 'queued', failure = '', failures = 0, run_after = NULL,
            waiting_for = '', dispatched_at = NULL, cancel_requested_at = NULL, effect_at = NULL,
            finished_at = NULL, result = NULL, error = ''
        WHERE {sql.in_ids("id")} AND state IN ('failed', 'cancelled')
        """,
        [sql.ids(ids)],
    )


def _revive_followers(batch: UUID) -> None:
    """Batches that failed because this one did wait for it again."""
    followers = Batch.objects.sealed().filter(after=batch, unmet_after__gt=0)
    for follower in list(followers.values_list("pk", flat=True)):
        last: UUID | None = None
        while ids := _revive_some(follower, last):
            last = ids[-1]
        if last is not None:
            inherit(follower)
            _revive_followers(follower)
            recompute_after(follower)


def _revive_some(follower: UUID, after: UUID | None) -> list[UUID]:
    """One chunk, in the order of the ids: what fails again, for another reason, comes up once."""
    with transaction.atomic():
        sql.lock_batches("b.id = %s", [sql.one_id(follower)])
        if not Batch.objects.sealed().filter(pk=follower).exists():
            return []
        victims = Task.objects.filter(
            batch=follower, state=TaskState.FAILED, failure=Failure.DEPENDENCY
        ).order_by("pk")
        if after is not None:
            victims = victims.filter(pk__gt=after)
        ids = list(victims.values_list("pk", flat=True)[: sql.CHUNK])
        if ids:
            _queue_again(ids)
            revive_dependents(ids)
            Batch.objects.filter(pk=follower).update(**REOPENED)
    return ids

"""What people ask of tasks and batches: seal, pause, cancel, retry, another priority.

Close, retry, cancel and seal lock the batch's row first, so that each sees what the others did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from batches.lanes import HIGHEST
from batches.models import Batch, Queue, Share, Task
from batches.queue import sql
from batches.queue.closing import cancel_queued, close_finished
from batches.queue.dependencies import recompute_after, recompute_dependents, revive_dependents
from batches.queue.dispatch import take_back
from batches.states import BackendName, BatchState, Failure, PriorityFrom, TaskState


class Conflict(Exception):
    """The row is not in a state in which that can be done; the message says what it is in."""


Also = Callable[[], object]
"""What is done in the transaction of a change, if there was anything to change."""


REOPENED: dict[str, Any] = {
    "state": BatchState.OPEN,
    "finished_at": None,
    "summary": None,
    "mirrored_at": None,
}


def _nothing() -> None:
    """Nothing besides."""


@contextmanager
def _locked(batch: UUID) -> Iterator[Batch]:
    """The batch with its row locked until the block commits."""
    with transaction.atomic():
        yield Batch.objects.select_for_update(no_key=True, of=("self",)).get(pk=batch)


@contextmanager
def _sealed(batch: UUID) -> Iterator[Batch]:
    """The same for what can only be asked of a batch that is all in, and stays.

    Raises:
        Conflict: it is still being submitted, or is being deleted.
    """
    with transaction.atomic():
        row = Batch.objects.select_for_update(no_key=True, of=("self",)).filter(pk=batch).first()
        if row is None or row.sealed_at is None:
            raise Conflict("The batch is still being submitted, or is being deleted.")
        yield row


def seal(batch: UUID, also: Also = _nothing) -> bool:
    """Make a batch whose rows are all in claimable; False when it was sealed already."""
    # A priority may have changed while rows were inserted with the old one.
    _inherit(batch)
    with _locked(batch) as row:
        # And once more with the lock: few, if any, changed since.
        while _inherit_some(row) >= sql.CHUNK:
            pass
        changed = sql.change(
            f"UPDATE {sql.BATCH} SET sealed_at = {sql.now()} WHERE id = %s AND sealed_at IS NULL",
            [sql.one_id(batch)],
        )
        if changed:
            also()
    if changed and row.unmet_after and recompute_after(batch):
        close_finished([batch])
    return changed == 1


def pause(batch: UUID) -> bool:
    """Stop claiming from a batch; what runs goes on. False when it was paused already."""
    with _sealed(batch) as row:
        if row.state != BatchState.OPEN:
            raise Conflict("The batch is finished.")
        changed = sql.change(
            f"UPDATE {sql.BATCH} SET paused_at = {sql.now()} WHERE id = %s AND paused_at IS NULL",
            [sql.one_id(batch)],
        )
    return changed == 1


def resume(batch: UUID) -> bool:
    """Claim from a paused batch again; False when it was not paused."""
    paused = Batch.objects.filter(pk=batch, paused_at__isnull=False)
    return paused.update(paused_at=None) == 1


def move(batch: UUID, backend: BackendName, also: Also = _nothing) -> bool:
    """Give a batch to the other backend; False when it is there already.

    A message of it that is out finds the batch gone, and ends.
    """
    with _sealed(batch) as row:
        if row.state != BatchState.OPEN:
            raise Conflict("The batch is finished.")
        if row.backend == backend:
            return False
        Batch.objects.filter(pk=batch).update(backend=backend)
        also()
    take_back("t.batch_id = %s", [sql.one_id(batch)])
    return True


def cancel_batch(batch: UUID, also: Also = _nothing) -> None:
    """Cancel what waits and ask what runs to stop."""
    with _sealed(batch) as row:
        if row.state != BatchState.OPEN:
            raise Conflict("The batch is finished.")
        changed = sql.change(
            f"UPDATE {sql.BATCH} SET cancel_requested_at = {sql.now()} "
            "WHERE id = %s AND cancel_requested_at IS NULL",
            [sql.one_id(batch)],
        )
        if changed:
            also()
    cancel_queued(batch)
    close_finished([batch])


def cancel_task(task: UUID, also: Also = _nothing) -> None:
    """Cancel a waiting task, or ask a running one to stop."""
    with transaction.atomic():
        row = Task.objects.select_for_update(of=("self",)).get(pk=task)
        if row.state == TaskState.QUEUED:
            sql.change(
                f"UPDATE {sql.TASK} SET state = 'cancelled', finished_at = {sql.now()}, "
                "run_after = NULL, waiting_for = '', dispatched_at = NULL "
                "WHERE id = %s AND state = 'queued'",
                [sql.one_id(task)],
            )
            also()
        elif row.state == TaskState.RUNNING:
            changed = sql.change(
                f"UPDATE {sql.TASK} SET cancel_requested_at = {sql.now()} "
                "WHERE id = %s AND state = 'running' AND cancel_requested_at IS NULL",
                [sql.one_id(task)],
            )
            if changed:
                also()
            return
        else:
            raise Conflict(f"The task has already {row.state}.")
    recompute_dependents([task])
    close_finished([row.batch_id])


def retry(
    batch: UUID,
    *,
    failures: Iterable[str] = (),
    tasks: Iterable[UUID] | None = None,
    also: Also = _nothing,
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
    _inherit(batch)
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
    with _sealed(batch) as row:
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
            _inherit(follower)
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


def set_batch_priority(batch: UUID, priority: int | None, also: Also = _nothing) -> None:
    """Change a batch's priority and that of the waiting tasks that inherited it.

    None: the queue's.
    """
    with _locked(batch) as row:
        Batch.objects.filter(pk=row.pk).update(priority=priority)
        also()
    _inherit(batch)


def set_queue_priority(queue: str, priority: int, also: Also = _nothing) -> None:
    """Change a queue's priority and that of the waiting tasks that inherited it."""
    with transaction.atomic():
        Queue.objects.filter(pk=queue).update(priority=priority)
        also()
    # All of them, whatever their priority is said to be before the lock: and what the rows get is
    # what is true under it, so that a change which is overtaken by another does no harm.
    open_batches = Batch.objects.filter(shares__queue=queue, state=BatchState.OPEN)
    for batch in list(open_batches.order_by("number").values_list("pk", flat=True)):
        _inherit(batch)


def set_task_priority(task: UUID, priority: int) -> None:
    """Give one waiting task a priority of its own."""
    changed = sql.change(
        f"UPDATE {sql.TASK} SET priority = %s, priority_from = 'item', lane = {_LANE} "
        "WHERE id = %s AND state IN ('queued', 'running')",
        [priority, priority, sql.one_id(task)],
    )
    if not changed:
        raise Conflict("The task is finished.")


_LANE = f"({HIGHEST} - %s) * {1 << 52} + (lane {sql.NUMBER_OF_LANE})"


def _inherit(batch: UUID) -> None:
    """Give the waiting tasks that have no priority of their own their batch's, or its queue's.

    In chunks, each with what is true under its lock; a batch that is gone has no tasks either.
    """
    with suppress(Batch.DoesNotExist):
        while True:
            with _locked(batch) as row:
                changed = _inherit_some(row)
            if changed < sql.CHUNK:
                return


def _inherit_some(batch: Batch) -> int:
    """A chunk of each of its queues, with the batch locked; returns how many rows were changed."""
    if batch.priority is not None:
        return _give(batch, batch.priority, PriorityFrom.BATCH)
    own = Share.objects.filter(batch=batch).order_by("number")
    shares = own.values_list("number", "queue__priority")
    return sum(_give(batch, priority, PriorityFrom.QUEUE, number) for number, priority in shares)


def _give(batch: Batch, priority: int, source: PriorityFrom, share: int | None = None) -> int:
    """Rows in the order of their ids: settles of the batch lock them so too."""
    within, parameters = "", [sql.one_id(batch.pk), priority, source]
    if share is not None:
        within = f"AND t.lane {sql.NUMBER_OF_LANE} = %s "
        parameters.append(share)
    chosen = (
        f"SELECT t.id FROM {sql.TASK} t WHERE t.batch_id = %s AND t.state IN ('queued', 'running') "
        f"AND t.priority_from <> 'item' AND (t.priority <> %s OR t.priority_from <> %s) {within}"
        f"ORDER BY t.id LIMIT {sql.CHUNK}{sql.locked('FOR UPDATE')}"
    )
    return sql.change(
        f"UPDATE {sql.TASK} SET priority = %s, priority_from = %s, lane = {_LANE} "
        f"WHERE {sql.picked(chosen)}",
        [priority, source, priority, *parameters],
    )


def pause_queue(queue: str, *, paused: bool) -> None:
    """Stop claiming from a queue, or go on."""
    if paused:
        Queue.objects.filter(pk=queue, paused_at__isnull=True).update(paused_at=Now())
    else:
        Queue.objects.filter(pk=queue).update(paused_at=None)

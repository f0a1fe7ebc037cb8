"""What people ask of tasks and batches: pause, move, cancel; and how a batch is held for it.

Close, retry, cancel and seal lock the batch's row first, so that each sees what the others did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from batches.models import Batch, Queue, Task
from batches.queue import sql
from batches.queue.closing import cancel_queued, close_finished
from batches.queue.dependencies import recompute_dependents
from batches.queue.dispatch import take_back
from batches.states import BackendName, BatchState, TaskState


class Conflict(Exception):
    """The row is not in a state in which that can be done; the message says what it is in."""


Also = Callable[[], object]
"""What is done in the transaction of a change, if there was anything to change."""


def nothing() -> None:
    """Nothing besides."""


@contextmanager
def locked(batch: UUID) -> Iterator[Batch]:
    """The batch with its row locked until the block commits."""
    with transaction.atomic():
        yield Batch.objects.select_for_update(no_key=True, of=("self",)).get(pk=batch)


@contextmanager
def sealed(batch: UUID) -> Iterator[Batch]:
    """The same for what can only be asked of a batch that is all in, and stays.

    Raises:
        Conflict: it is still being submitted, or is being deleted.
    """
    with transaction.atomic():
        row = Batch.objects.select_for_update(no_key=True, of=("self",)).filter(pk=batch).first()
        if row is None or row.sealed_at is None:
            raise Conflict("The batch is still being submitted, or is being deleted.")
        yield row


def pause(batch: UUID) -> bool:
    """Stop claiming from a batch; what runs goes on. False when it was paused already."""
    with sealed(batch) as row:
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


def move(batch: UUID, backend: BackendName, also: Also = nothing) -> bool:
    """Give a batch to the other backend; False when it is there already.

    A message of it that is out finds the batch gone, and ends.
    """
    with sealed(batch) as row:
        if row.state != BatchState.OPEN:
            raise Conflict("The batch is finished.")
        if row.backend == backend:
            return False
        Batch.objects.filter(pk=batch).update(backend=backend)
        also()
    take_back("t.batch_id = %s", [sql.one_id(batch)])
    return True


def cancel_batch(batch: UUID, also: Also = nothing) -> None:
    """Cancel what waits and ask what runs to stop."""
    with sealed(batch) as row:
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


def cancel_task(task: UUID, also: Also = nothing) -> None:
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


def pause_queue(queue: str, *, paused: bool) -> None:
    """Stop claiming from a queue, or go on."""
    if paused:
        Queue.objects.filter(pk=queue, paused_at__isnull=True).update(paused_at=Now())
    else:
        Queue.objects.filter(pk=queue).update(paused_at=None)

"""What is asked of batches and tasks that wait or run, or have ended."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.conf import settings
from django.db import transaction

from batches import audit, dispatch
from batches.audit import Actor
from batches.backends.database import wake
from batches.models import Batch, Task
from batches.operations.given import UNSET, Unset, counted, given
from batches.queue import priorities, retrying, wishes
from batches.queue.wishes import Conflict
from batches.states import BackendName, Failure
from batches.submission import FieldError, InvalidSubmission


def pause_batch(batch: Batch, *, by: Actor | None = None) -> None:
    """Stop starting tasks of a batch; what runs goes on.

    Raises:
        Conflict: the batch is finished.
    """
    with transaction.atomic():
        if wishes.pause(batch.pk):
            audit.record(by, batch, "Paused")


def resume_batch(batch: Batch, *, by: Actor | None = None) -> None:
    """Go on with a paused batch."""
    with transaction.atomic():
        if wishes.resume(batch.pk):
            audit.record(by, batch, "Resumed")
    wake()


def move_batch(batch: Batch, backend: BackendName, *, by: Actor | None = None) -> None:
    """Let a batch go on on the other backend; what runs is finished where it runs.

    Raises:
        Conflict: the batch is finished, or there is no broker.
    """
    if backend == BackendName.CELERY and not settings.CELERY_BROKER_URL:
        raise Conflict("There is no broker: set CELERY_BROKER_URL.")
    words = f"Moved to the {backend} backend"
    if wishes.move(batch.pk, backend, lambda: audit.record(by, batch, words)):
        wake()
        if backend == BackendName.CELERY:
            dispatch.nudge()


def cancel_batch(batch: Batch, *, by: Actor | None = None) -> None:
    """Cancel what waits, stop what runs (within two seconds).

    Raises:
        Conflict: the batch is finished.
    """
    wishes.cancel_batch(batch.pk, lambda: audit.record(by, batch, "Cancelled"))


def cancel_task(task: Task, *, by: Actor | None = None) -> None:
    """Cancel one task, waiting or running.

    Raises:
        Conflict: the task is finished.
    """
    wishes.cancel_task(task.pk, lambda: audit.record(by, task, "Cancelled"))


def retry_batch(
    batch: Batch,
    *,
    failures: Collection[str] = (),
    ids: Collection[UUID] = (),
    by: Actor | None = None,
) -> int:
    """Queue the failed tasks of a batch again; of a cancelled batch, the cancelled ones too.

    ``failures`` keeps to tasks that failed for one of these reasons, ``ids`` to these tasks
    (failed or cancelled). Returns how many were queued.

    Raises:
        Conflict: the batch is still being cancelled.
    """
    if unknown := set(failures) - set(Failure.values):
        raise InvalidSubmission(
            [
                FieldError(
                    "failure",
                    f"{', '.join(sorted(unknown))}: not one of {', '.join(Failure.values)}.",
                )
            ]
        )
    words = f"Retried {counted(len(ids), 'chosen task') if ids else 'its tasks'}"
    if failures:
        words += f" that failed as {', '.join(sorted(set(failures)))}"
    queued = retrying.retry(
        batch.pk,
        failures=failures,
        tasks=ids or None,
        also=lambda: audit.record(by, batch, words),
    )
    wake()
    return len(queued)


def retry_task(task: Task, *, by: Actor | None = None) -> None:
    """Queue one failed or cancelled task again, with a fresh full budget.

    Raises:
        Conflict: it is neither, or its batch is still being cancelled.
    """
    if not retrying.retry(
        task.batch_id, tasks=[task.pk], also=lambda: audit.record(by, task, "Retried")
    ):
        raise Conflict(f"Only a failed or cancelled task can be retried; this one is {task.state}.")
    wake()


def change_batch(
    batch: Batch,
    *,
    priority: int | Unset | None = UNSET,
    parallel: int | Unset | None = UNSET,
    by: Actor | None = None,
) -> None:
    """Change a batch's priority (None: the queue's) or its limit of parallel tasks (None: none)."""

    def rest() -> None:
        if not isinstance(parallel, Unset):
            Batch.objects.filter(pk=batch.pk).update(parallel=parallel)
        if changes := given(priority=priority, parallel=parallel):
            audit.record(by, batch, f"Changed: {audit.values(changes)}")

    if isinstance(priority, Unset):
        with transaction.atomic():
            rest()
    else:
        priorities.set_batch_priority(batch.pk, priority, rest)
    wake()


def change_task(task: Task, *, priority: int, by: Actor | None = None) -> None:
    """Give a task a priority of its own.

    Raises:
        Conflict: the task is finished.
    """
    with transaction.atomic():
        priorities.set_task_priority(task.pk, priority)
        audit.record(by, task, f"Changed: priority {priority}")
    wake()

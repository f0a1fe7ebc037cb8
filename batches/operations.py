"""The one door for what users ask: the API, the admin and the commands all come through here."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.contrib.auth.models import Group, User
from django.db.models import ProtectedError

from batches import workspaces
from batches.backends.database import wake
from batches.intake import admit
from batches.models import Batch, Queue, Task, Workspace
from batches.places import WrongPlace, adopt
from batches.queue import wishes
from batches.queue.wishes import Conflict
from batches.states import Failure
from batches.submission import FieldError, InvalidSubmission, Submission

__all__ = [
    "UNSET",
    "Conflict",
    "add_workspace",
    "cancel_batch",
    "cancel_task",
    "change_batch",
    "change_queue",
    "change_task",
    "change_workspace",
    "pause_batch",
    "remove_workspace",
    "resume_batch",
    "retry_batch",
    "retry_task",
    "submit",
]


class _Unset:
    """No value was given; None is a value."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset()


def submit(owner: User, submission: Submission) -> Batch:
    """Store a batch and let its tasks be claimed.

    Everything is validated before the first row is written.

    Raises:
        InvalidSubmission: with every error found; nothing was stored.
    """
    batch = admit(owner, submission)
    wake()
    return batch


def pause_batch(batch: Batch) -> None:
    """Stop starting tasks of a batch; what runs goes on.

    Raises:
        Conflict: the batch is finished.
    """
    wishes.pause(batch.pk)


def resume_batch(batch: Batch) -> None:
    """Go on with a paused batch."""
    wishes.resume(batch.pk)
    wake()


def cancel_batch(batch: Batch) -> None:
    """Cancel what waits, stop what runs (within two seconds).

    Raises:
        Conflict: the batch is finished.
    """
    wishes.cancel_batch(batch.pk)


def cancel_task(task: Task) -> None:
    """Cancel one task, waiting or running.

    Raises:
        Conflict: the task is finished.
    """
    wishes.cancel_task(task.pk)


def retry_batch(batch: Batch, *, failures: Collection[str] = (), ids: Collection[UUID] = ()) -> int:
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
    queued = wishes.retry(batch.pk, failures=failures, tasks=ids or None)
    wake()
    return len(queued)


def retry_task(task: Task) -> None:
    """Queue one failed or cancelled task again, with a fresh full budget.

    Raises:
        Conflict: it is neither, or its batch is still being cancelled.
    """
    if not wishes.retry(task.batch_id, tasks=[task.pk]):
        raise Conflict(f"Only a failed or cancelled task can be retried; this one is {task.state}.")
    wake()


def change_batch(
    batch: Batch,
    *,
    priority: int | _Unset | None = UNSET,
    parallel: int | _Unset | None = UNSET,
) -> None:
    """Change a batch's priority (None: the queue's) or its limit of parallel tasks (None: none)."""
    if not isinstance(priority, _Unset):
        wishes.set_batch_priority(batch.pk, priority)
    if not isinstance(parallel, _Unset):
        Batch.objects.filter(pk=batch.pk).update(parallel=parallel)
    wake()


def change_task(task: Task, *, priority: int) -> None:
    """Give a task a priority of its own.

    Raises:
        Conflict: the task is finished.
    """
    wishes.set_task_priority(task.pk, priority)
    wake()


def change_queue(
    queue: Queue,
    *,
    priority: int | _Unset = UNSET,
    paused: bool | _Unset = UNSET,
    concurrency_limit: int | _Unset | None = UNSET,
    rate_limit: int | _Unset | None = UNSET,
) -> None:
    """Change how a queue is served; a new priority reaches the waiting tasks that inherited it."""
    if not isinstance(priority, _Unset):
        wishes.set_queue_priority(queue.pk, priority)
    if not isinstance(paused, _Unset):
        wishes.pause_queue(queue.pk, paused=paused)
    if not isinstance(concurrency_limit, _Unset):
        Queue.objects.filter(pk=queue.pk).update(concurrency_limit=concurrency_limit)
    if not isinstance(rate_limit, _Unset):
        Queue.objects.filter(pk=queue.pk).update(rate_limit=rate_limit)
    wake()


def add_workspace(
    name: str,
    path: str | Path,
    *,
    environment: dict[str, Any] | None = None,
    groups: Iterable[Group] = (),
) -> Workspace:
    """Register a folder for tasks to work in; ``groups`` will see its batches.

    Raises:
        InvalidSubmission: names ``name``, ``path`` or a part of ``environment``.
    """
    return workspaces.register(name, path, environment, groups)


def change_workspace(
    workspace: Workspace,
    *,
    path: str | Path | _Unset = UNSET,
    environment: dict[str, Any] | _Unset | None = UNSET,
    groups: Iterable[Group] | _Unset = UNSET,
) -> None:
    """Move a workspace, or change what its commands run in, or who sees its batches.

    Raises:
        InvalidSubmission: names the field.
    """
    changes: dict[str, Any] = {}
    if not isinstance(environment, _Unset):
        changes["environment"] = workspaces.checked_environment(environment)
    if not isinstance(path, _Unset):
        workspace.path = changes["path"] = workspaces.checked_path(path)
        try:
            adopt(workspace)
        except WrongPlace as error:
            raise InvalidSubmission([FieldError("path", str(error))]) from None
        changes["marker"] = workspace.marker
    if changes:
        Workspace.objects.filter(pk=workspace.pk).update(**changes)
    if not isinstance(groups, _Unset):
        workspace.groups.set(groups)
    wake()


def remove_workspace(workspace: Workspace) -> None:
    """Forget a workspace; its folder stays as it is.

    Raises:
        Conflict: there are batches of it.
    """
    try:
        workspace.delete()
    except ProtectedError:
        raise Conflict(
            "There are batches of this workspace: it can be removed once cleanup deleted them."
        ) from None

"""The one door for what users ask: the API, the admin and the commands all come through here.

``by`` is who asks and how they came in: it is written to the row's history with the change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import ProtectedError
from knox.models import AuthToken

from batches import audit, dispatch, idempotency, mcp_servers, model_profiles, review, workspaces
from batches.audit import Actor
from batches.backends.database import wake
from batches.idempotency import KeyReused
from batches.intake import admit
from batches.models import Batch, McpServer, ModelProfile, Queue, Task, Workspace
from batches.places import WrongPlace, adopt
from batches.queue import wishes
from batches.queue.wishes import Conflict
from batches.states import BackendName, DecisionVerb, Failure
from batches.submission import FieldError, InvalidSubmission, Submission

__all__ = [
    "UNSET",
    "Conflict",
    "KeyReused",
    "add_mcp_server",
    "add_model",
    "add_workspace",
    "apply_patch",
    "cancel_batch",
    "cancel_task",
    "change_batch",
    "change_mcp_server",
    "change_model",
    "change_queue",
    "change_task",
    "change_workspace",
    "discard_patch",
    "keep_patch",
    "make_token",
    "move_batch",
    "pause_batch",
    "remove_mcp_server",
    "remove_model",
    "remove_workspace",
    "resume_batch",
    "retry_batch",
    "retry_task",
    "revoke_token",
    "submit",
    "submit_once",
]


class _Unset:
    """No value was given; None is a value."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset()


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _given(**values: object) -> dict[str, Any]:
    """Those of the values that were given."""
    return {name: value for name, value in values.items() if not isinstance(value, _Unset)}


def submit(
    owner: User,
    submission: Submission,
    *,
    by: Actor | None = None,
    also: Callable[[Batch], object] = lambda _batch: None,
) -> Batch:
    """Store a batch and let its tasks be claimed.

    Everything is validated before the first row is written. ``also`` is called in the transaction
    that lets them be claimed.

    Raises:
        InvalidSubmission: with every error found; nothing was stored.
    """

    def sealed(batch: Batch) -> None:
        also(batch)
        audit.record(by, batch, f"Submitted with {_counted(batch.total, 'task')}", audit.ADDITION)

    batch = admit(owner, submission, sealed)
    wake()
    if batch.backend == BackendName.CELERY:
        batch.unsent = not dispatch.nudge()
    return batch


def submit_once(
    owner: User,
    key: str,
    wanted: Callable[[], Submission],
    fingerprint: Callable[[], str],
    *,
    by: Actor | None = None,
) -> tuple[Batch, bool]:
    """Submit what is wanted, unless it was submitted under this key: the batch, and whether it was.

    ``fingerprint`` is asked once all of the submission has been read, or in its place.

    Raises:
        InvalidSubmission: nothing was stored, and the key is free again.
        KeyReused: the key stands for a submission with another fingerprint.
        Conflict: under this key a submission is in progress.
    """
    taken = idempotency.take(owner, key)
    if taken.batch is not None:
        if taken.fingerprint != fingerprint():
            raise KeyReused
        return taken.batch, True

    def complete(batch: Batch) -> None:
        idempotency.complete(taken, batch, fingerprint())

    try:
        return submit(owner, wanted(), by=by, also=complete), False
    except BaseException:
        idempotency.give_back(taken)
        raise


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
    words = f"Retried {_counted(len(ids), 'chosen task') if ids else 'its tasks'}"
    if failures:
        words += f" that failed as {', '.join(sorted(set(failures)))}"
    queued = wishes.retry(
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
    if not wishes.retry(
        task.batch_id, tasks=[task.pk], also=lambda: audit.record(by, task, "Retried")
    ):
        raise Conflict(f"Only a failed or cancelled task can be retried; this one is {task.state}.")
    wake()


def apply_patch(task: Task, *, by: Actor) -> Batch:
    """Put the patch that a task left into its workspace: the batch of one task that does it.

    Raises:
        Conflict: there is nothing to apply, or it was decided already.
        InvalidSubmission: whoever asks may not use the workspace.
    """

    def decided(batch: Batch) -> None:
        review.decide(task, DecisionVerb.APPLY, by.user, Task.objects.get(batch=batch))
        audit.record(by, task, "Let its patch be applied")

    return submit(by.user, review.application(task), by=by, also=decided)


def keep_patch(task: Task, *, by: Actor) -> Batch | None:
    """Of the variants of an item keep this one's patch: apply it, and discard the others'.

    None where its task has applied it by itself already.

    Raises:
        Conflict: there is nothing to apply, or it was decided already; nothing was discarded.
        InvalidSubmission: whoever asks may not use the workspace.
    """
    batch = None if review.is_in_place(task) else apply_patch(task, by=by)
    for other in review.rivals(task):
        with suppress(Conflict):  # somebody decided on it just now
            discard_patch(other, by=by)
    return batch


def discard_patch(task: Task, *, by: Actor) -> None:
    """Decide that the patch that a task left is not wanted; it stays where it is kept.

    Raises:
        Conflict: there is no patch, or it was decided already.
    """
    with transaction.atomic():
        review.decide(task, DecisionVerb.DISCARD, by.user)
        audit.record(by, task, "Discarded its patch")


def change_batch(
    batch: Batch,
    *,
    priority: int | _Unset | None = UNSET,
    parallel: int | _Unset | None = UNSET,
    by: Actor | None = None,
) -> None:
    """Change a batch's priority (None: the queue's) or its limit of parallel tasks (None: none)."""

    def rest() -> None:
        if not isinstance(parallel, _Unset):
            Batch.objects.filter(pk=batch.pk).update(parallel=parallel)
        if changes := _given(priority=priority, parallel=parallel):
            audit.record(by, batch, f"Changed: {audit.values(changes)}")

    if isinstance(priority, _Unset):
        with transaction.atomic():
            rest()
    else:
        wishes.set_batch_priority(batch.pk, priority, rest)
    wake()


def change_task(task: Task, *, priority: int, by: Actor | None = None) -> None:
    """Give a task a priority of its own.

    Raises:
        Conflict: the task is finished.
    """
    with transaction.atomic():
        wishes.set_task_priority(task.pk, priority)
        audit.record(by, task, f"Changed: priority {priority}")
    wake()


def change_queue(
    queue: Queue,
    *,
    priority: int | _Unset = UNSET,
    paused: bool | _Unset = UNSET,
    concurrency_limit: int | _Unset | None = UNSET,
    rate_limit: int | _Unset | None = UNSET,
    by: Actor | None = None,
) -> None:
    """Change how a queue is served; a new priority reaches the waiting tasks that inherited it."""

    def rest() -> None:
        if not isinstance(paused, _Unset):
            wishes.pause_queue(queue.pk, paused=paused)
        if limits := _given(concurrency_limit=concurrency_limit, rate_limit=rate_limit):
            Queue.objects.filter(pk=queue.pk).update(**limits)
        told = "" if isinstance(paused, _Unset) else "paused" if paused else "resumed"
        changes = audit.values(_given(priority=priority) | limits)
        if words := ", ".join(filter(None, [told, changes])):
            audit.record(by, queue, f"Changed: {words}")

    if isinstance(priority, _Unset):
        with transaction.atomic():
            rest()
    else:
        wishes.set_queue_priority(queue.pk, priority, rest)
    wake()


def add_workspace(
    name: str,
    path: str | Path,
    *,
    environment: dict[str, Any] | None = None,
    groups: Iterable[Group] = (),
    by: Actor | None = None,
) -> Workspace:
    """Register a folder for tasks to work in; ``groups`` will see its batches.

    Raises:
        InvalidSubmission: names ``name``, ``path`` or a part of ``environment``.
    """

    def added(workspace: Workspace) -> None:
        audit.record(by, workspace, f"Added for {workspace.path}", audit.ADDITION)

    return workspaces.register(name, path, environment, groups, added)


def change_workspace(
    workspace: Workspace,
    *,
    path: str | Path | _Unset = UNSET,
    environment: dict[str, Any] | _Unset | None = UNSET,
    groups: Iterable[Group] | _Unset = UNSET,
    by: Actor | None = None,
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
    with transaction.atomic():
        if changes:
            Workspace.objects.filter(pk=workspace.pk).update(**changes)
        if not isinstance(groups, _Unset):
            workspace.groups.set(groups)
        # Names only: the value of a variable may be a secret.
        if names := ", ".join(_given(path=path, environment=environment, groups=groups)):
            audit.record(by, workspace, f"Changed: {names}")
    wake()


def remove_workspace(workspace: Workspace, *, by: Actor | None = None) -> None:
    """Forget a workspace; its folder stays as it is.

    Raises:
        Conflict: there are batches of it.
    """
    try:
        with transaction.atomic():
            audit.record(by, workspace, "Removed", audit.DELETION)
            workspace.delete()
    except ProtectedError:
        raise Conflict(
            "There are batches of this workspace: it can be removed once cleanup deleted them."
        ) from None


def add_mcp_server(
    name: str, *, groups: Iterable[Group] = (), by: Actor | None = None, **values: Any
) -> McpServer:
    """Register an MCP server; ``values`` are ``mcp_servers.FIELDS``, ``groups`` may use it.

    Raises:
        InvalidSubmission: names each field that is wrong.
    """

    def added(server: McpServer) -> None:
        audit.record(by, server, "Added", audit.ADDITION)

    return mcp_servers.register(name, values, groups, added)


def change_mcp_server(
    server: McpServer,
    *,
    groups: Iterable[Group] | _Unset = UNSET,
    by: Actor | None = None,
    **values: Any,
) -> None:
    """Change how a server is reached, or who may use it; tasks that start later see the change.

    Raises:
        InvalidSubmission: names each field that is wrong.
    """
    with transaction.atomic():
        if values:
            mcp_servers.change(server, values)
        if not isinstance(groups, _Unset):
            server.groups.set(groups)
        # Names only: the value of a variable may be a secret.
        if names := ", ".join([*values, *_given(groups=groups)]):
            audit.record(by, server, f"Changed: {names.replace('_', ' ')}")


def remove_mcp_server(server: McpServer, *, by: Actor | None = None) -> None:
    """Forget a server; tasks that still wait for it will be rejected."""
    with transaction.atomic():
        audit.record(by, server, "Removed", audit.DELETION)
        server.delete()


def add_model(name: str, *, by: Actor | None = None, **values: Any) -> ModelProfile:
    """Register how a model is reached; ``values`` are ``model_profiles.FIELDS``.

    Raises:
        InvalidSubmission: names each field that is wrong.
    """

    def added(profile: ModelProfile) -> None:
        audit.record(by, profile, "Added", audit.ADDITION)

    return model_profiles.register(name, values, added)


def change_model(profile: ModelProfile, *, by: Actor | None = None, **values: Any) -> None:
    """Change how a model is reached, or what tasks may ask of it; those that start later see it.

    Raises:
        InvalidSubmission: names each field that is wrong.
    """
    with transaction.atomic():
        model_profiles.change(profile, values)
        if names := ", ".join(values):
            audit.record(by, profile, f"Changed: {names.replace('_', ' ')}")
    wake()


def remove_model(profile: ModelProfile, *, by: Actor | None = None) -> None:
    """Forget how a model is reached: its name is one of Ollama's again."""
    with transaction.atomic():
        audit.record(by, profile, "Removed", audit.DELETION)
        profile.delete()
    wake()


def make_token(user: User, *, lifetime: timedelta, by: Actor | None = None) -> tuple[Any, str]:
    """An API token for a user: what is stored of it, and the token itself, which is not."""
    with transaction.atomic():
        made, token = AuthToken.objects.create(user=user, expiry=lifetime)
        audit.record(by, user, f"Made the API token {made.token_key[:8]}…")
    return made, token


def revoke_token(token: Any, *, by: Actor | None = None) -> None:
    """Refuse programs that use a token from now on."""
    with transaction.atomic():
        audit.record(by, token.user, f"Revoked the API token {token.token_key[:8]}…")
        token.delete()

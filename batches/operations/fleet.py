"""What tasks are run on: queues and workspaces, servers and models."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import ProtectedError

from batches import audit, mcp_servers, model_profiles, workspaces
from batches.audit import Actor
from batches.backends.database import wake
from batches.models import McpServer, ModelProfile, Queue, Workspace
from batches.operations.given import UNSET, Unset, given
from batches.places import WrongPlace, adopt
from batches.queue import priorities, wishes
from batches.queue.wishes import Conflict
from batches.submission import FieldError, InvalidSubmission


def change_queue(
    queue: Queue,
    *,
    priority: int | Unset = UNSET,
    paused: bool | Unset = UNSET,
    concurrency_limit: int | Unset | None = UNSET,
    rate_limit: int | Unset | None = UNSET,
    by: Actor | None = None,
) -> None:
    """Change how a queue is served; a new priority reaches the waiting tasks that inherited it."""

    def rest() -> None:
        if not isinstance(paused, Unset):
            wishes.pause_queue(queue.pk, paused=paused)
        if limits := given(concurrency_limit=concurrency_limit, rate_limit=rate_limit):
            Queue.objects.filter(pk=queue.pk).update(**limits)
        told = "" if isinstance(paused, Unset) else "paused" if paused else "resumed"
        changes = audit.values(given(priority=priority) | limits)
        if words := ", ".join(filter(None, [told, changes])):
            audit.record(by, queue, f"Changed: {words}")

    if isinstance(priority, Unset):
        with transaction.atomic():
            rest()
    else:
        priorities.set_queue_priority(queue.pk, priority, rest)
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
    path: str | Path | Unset = UNSET,
    environment: dict[str, Any] | Unset | None = UNSET,
    groups: Iterable[Group] | Unset = UNSET,
    by: Actor | None = None,
) -> None:
    """Move a workspace, or change what its commands run in, or who sees its batches.

    Raises:
        InvalidSubmission: names the field.
    """
    changes: dict[str, Any] = {}
    if not isinstance(environment, Unset):
        changes["environment"] = workspaces.checked_environment(environment)
    if not isinstance(path, Unset):
        workspace.path = changes["path"] = workspaces.checked_path(path)
        try:
            adopt(workspace)
        except WrongPlace as error:
            raise InvalidSubmission([FieldError("path", str(error))]) from None
        changes["marker"] = workspace.marker
    with transaction.atomic():
        if changes:
            Workspace.objects.filter(pk=workspace.pk).update(**changes)
        if not isinstance(groups, Unset):
            workspace.groups.set(groups)
        # Names only: the value of a variable may be a secret.
        if names := ", ".join(given(path=path, environment=environment, groups=groups)):
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
    groups: Iterable[Group] | Unset = UNSET,
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
        if not isinstance(groups, Unset):
            server.groups.set(groups)
        # Names only: the value of a variable may be a secret.
        if names := ", ".join([*values, *given(groups=groups)]):
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

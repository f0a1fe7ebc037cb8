"""What works here, what does not, and what to do about it: the looks of ``manage.py doctor``."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils.module_loading import import_string

from batches import dispatch
from batches.management.base import typed
from batches.mcp_servers import described
from batches.models import McpServer, ModelProfile, Queue, Resource, Task, Worker, Workspace
from batches.places import can_open
from batches.querysets import READY
from batches.states import TaskState, Transport
from batches.supervision.checking import check_each
from batches.supervision.model_checks import check_models, usual_models

LEAST_FREE = 2 * 1024**3
"""Bytes. Runs are stopped below 512 MiB (``agents.limits``): this leaves time to act."""
MOST_NAMED = 10
SERVERS_WITHIN = 60.0
"""Seconds for all MCP servers together."""
MODELS_WITHIN = 30.0
"""Seconds for all models together."""


class Mark(StrEnum):
    """``warning``: it works, but not as well or as safely as it could. ``failed``: it does not."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; ``remedy`` is empty where there is nothing to do."""

    subject: str
    mark: Mark
    text: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Every finding, as it is made. Without a database the looks that need one are left out."""
    yield from _settings()
    yield from _disk()
    yield from _sandbox()
    try:
        usable = True
        for finding in _database():
            usable = usable and finding.mark != Mark.FAILED
            yield finding
        if usable:
            looks = (
                _people, _broker, _workers, _backlog, _workspaces, _resources, _models, _servers,
            )  # fmt: skip
            for look in looks:
                yield from look()
    except DatabaseError as error:
        yield Finding(
            "database", Mark.FAILED, f"It does not answer: {str(error).strip()}", _reach_database()
        )


def _settings() -> Iterator[Finding]:
    if settings.DEBUG:
        yield Finding(
            "settings", Mark.WARNING, "DEBUG is on: errors show their insides to everybody.",
            "Unset DEBUG.",
        )  # fmt: skip
    if os.geteuid() == 0:
        yield Finding("user", Mark.WARNING, "This is root.", "Run the console as an ordinary user.")
    key = settings.DATA_DIR / "secret_key"
    if key.exists() and stat.S_IMODE(key.stat().st_mode) & 0o077:
        yield Finding(
            "secret key", Mark.FAILED, f"Others can read {key}.",
            f"chmod 600 {key}, or make a new one by deleting it: everybody logs in again.",
        )  # fmt: skip


def _disk() -> Iterator[Finding]:
    folder = settings.DATA_DIR
    if not os.access(folder, os.W_OK):
        yield Finding(
            "data directory", Mark.FAILED, f"{folder} cannot be written.",
            "Give it to the user that runs the console, or name another one: --data-dir DIR.",
        )  # fmt: skip
        return
    free = shutil.disk_usage(folder).free
    text = f"{folder} has {free / 1024**3:.1f} GiB free."
    if free < LEAST_FREE:
        yield Finding(
            "data directory", Mark.WARNING, text,
            "Free some space: runs are stopped below 0.5 GiB. Old work is removed by "
            f"{typed('cleanup')}.",
        )  # fmt: skip
    else:
        yield Finding("data directory", Mark.OK, text)


def _sandbox() -> Iterator[Finding]:
    held = import_string(settings.SANDBOX_PROBE)()
    if held.kind == "rlimits":
        yield Finding(
            "sandbox",
            Mark.FAILED if settings.REQUIRE_SANDBOX else Mark.WARNING,
            f"Commands of tasks are held by resource limits alone: {held.reason}.",
            "apt-get install bubblewrap; deploy/README.md names what may forbid it to work.",
        )
    else:
        yield Finding("sandbox", Mark.OK, f"Commands of tasks run in {held.kind}.")


def _reach_database() -> str:
    if connection.vendor == "sqlite":
        return "Is the data directory the right one, and can this user read it?"
    return "Is the server up, and DATABASE_URL right?"


def _database() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        yield Finding(
            "database", Mark.FAILED, f"{connection.display_name} lacks {len(missing)} migrations.",
            f"{typed('up')} applies them at start; {typed('migrate')} does it alone.",
        )  # fmt: skip
    else:
        yield Finding(
            "database", Mark.OK, f"{connection.display_name} answers, its tables are up to date."
        )


def _people() -> Iterator[Finding]:
    if not get_user_model().objects.filter(is_active=True, is_superuser=True).exists():
        yield Finding("users", Mark.WARNING, "There is no administrator.", typed("createsuperuser"))


def _broker() -> Iterator[Finding]:
    if not settings.CELERY_BROKER_URL:
        return
    try:
        dispatch.reach()
    except dispatch.BrokerAway as away:
        yield Finding(
            "broker", Mark.FAILED, f"It does not answer: {away}.",
            "Is it running, and CELERY_BROKER_URL right? Tasks wait in the database meanwhile.",
        )  # fmt: skip
        return
    out = Task.objects.filter(state=TaskState.QUEUED, dispatched_at__isnull=False).count()
    yield Finding("broker", Mark.OK, f"It answers; messages out: {out}.")


def _workers() -> Iterator[Finding]:
    workers = list(Worker.objects.live())
    if not workers:
        yield Finding(
            "workers", Mark.FAILED, "None is running: tasks wait.",
            f"Start one: {typed('up')}, or {typed('worker')}.",
        )  # fmt: skip
        return
    slots = sum(worker.slots for worker in workers)
    running = sum(worker.running for worker in workers)
    yield Finding(
        "workers", Mark.OK, f"{len(workers)} running, {running} of {slots} slots are busy."
    )
    if bare := [worker.name for worker in workers if worker.sandbox == "rlimits"]:
        yield Finding(
            "workers", Mark.WARNING, f"Not isolated: {_named(bare)}.",
            "Install bubblewrap on their machines.",
        )  # fmt: skip


def _backlog() -> Iterator[Finding]:
    paused = list(Queue.objects.filter(paused_at__isnull=False).values_list("name", flat=True))
    if paused:
        yield Finding(
            "queues", Mark.WARNING, f"Paused: {_named(paused)}.",
            "PATCH /batch/queues/NAME with paused false, or the queue's page in the console.",
        )  # fmt: skip
    served: set[str] = set()
    for worker in Worker.objects.live():
        served.update(worker.queues or Queue.objects.values_list("name", flat=True))
    unserved = [
        name
        for name in Queue.objects.exclude(name__in=served).values_list("name", flat=True)
        if Task.objects.filter(READY, batch__sealed_at__isnull=False).in_queue(name).exists()
    ]
    if served and unserved:
        yield Finding(
            "queues", Mark.FAILED, f"Tasks wait that no worker takes: {_named(unserved)}.",
            "Start a worker without --queues, or with these.",
        )  # fmt: skip


def _workspaces() -> Iterator[Finding]:
    rows = list(Workspace.objects.all())
    lost = [row.name for row in rows if not can_open(row)]
    if lost:
        yield Finding(
            "workspaces", Mark.WARNING, f"Not to be opened on this machine: {_named(lost)}.",
            f"Is the folder there, readable, and the same one? {typed('workspace list')}",
        )  # fmt: skip
    elif rows:
        yield Finding("workspaces", Mark.OK, f"All {len(rows)} can be opened here.")
    else:
        yield Finding(
            "workspaces", Mark.WARNING, "There are none: most tasks need one.",
            typed("workspace add NAME PATH"),
        )  # fmt: skip


def _resources() -> Iterator[Finding]:
    for away in Resource.objects.filter(away_since__isnull=False).order_by("name")[:MOST_NAMED]:
        yield Finding(
            away.name,
            Mark.WARNING,
            f"Away since {away.away_since:%Y-%m-%d %H:%M} UTC.",
            away.reason,
        )


def _models() -> Iterator[Finding]:
    """Those with a profile, and those that a task of an agent needs which names none."""
    profiles = dict(ModelProfile.objects.values_list("name", "enabled"))
    usual = [name for name in usual_models() if name not in profiles]
    names = [name for name, enabled in profiles.items() if enabled]
    left = {*names, *usual}
    away: dict[str, list[str]] = {}
    for name, checked in check_models([*names, *usual], within=MODELS_WITHIN):
        left.remove(name)
        if checked.ok:
            yield Finding(f"model {name}", Mark.OK, f"It {checked.said}")
        elif name in profiles:
            remedy = f"Then: {typed(f'model check {name}')}"
            yield Finding(f"model {name}", Mark.FAILED, f"It {checked.said}", remedy)
        else:
            away.setdefault(checked.reason, []).append(name)
    for reason, missing in away.items():
        yield Finding(
            "models", Mark.WARNING, f"{_named(sorted(missing))}: {reason}",
            "Tasks of agents that name no other model wait for that.",
        )  # fmt: skip
    if left:
        yield Finding(
            "models", Mark.WARNING, f"No time was left to ask: {_named(sorted(left))}.",
            typed("model check NAME"),
        )  # fmt: skip
    if shutil.which("git") is None:
        yield Finding(
            "git", Mark.WARNING, "It is not installed here: agents cannot work in repositories.",
            "apt-get install git",
        )  # fmt: skip


def _servers() -> Iterator[Finding]:
    """Each as it answers, so the slowest comes last."""
    servers = list(McpServer.objects.filter(enabled=True))
    left = {server.name for server in servers}
    for server, checked in check_each(servers, within=SERVERS_WITHIN):
        left.remove(server.name)
        mark = Mark.OK if checked.ok else Mark.FAILED
        remedy = "" if checked.ok else _reach_server(server)
        yield Finding(f"MCP server {server.name}", mark, f"It {checked.said}", remedy)
    if left:
        yield Finding(
            "MCP servers", Mark.WARNING, f"No time was left to ask: {_named(sorted(left))}.",
            typed("mcp check NAME"),
        )  # fmt: skip


def _reach_server(server: McpServer) -> str:
    if described(server)["problem"]:
        remedy = "It was looked for where this command runs: workers may have another environment."
    elif server.transport == Transport.HTTP:
        remedy = "Is it running, and are its address and headers right?"
    else:
        remedy = "Does its command start, with nothing but its folders and variables to see?"
    return f"{remedy} Then: {typed(f'mcp check {server.name}')}"


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more

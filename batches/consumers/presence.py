"""What a worker says of itself in the Worker table."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from uuid import UUID

from django.db.models.functions import Now

from batches import identity
from batches.models import Worker
from batches.states import BackendName, WorkerState

BEAT_EVERY = 5.0


class Presence:
    """The row of one worker process."""

    def __init__(self, row: Worker) -> None:
        self.name = row.name
        self._row = row
        self._beaten = 0.0
        self._claimed = False
        self._said: tuple[object, ...] = ()

    @classmethod
    def announce(
        cls,
        queues: Iterable[str],
        kinds: Iterable[str],
        slots: int,
        backend: BackendName = BackendName.DATABASE,
        state: WorkerState = WorkerState.RUNNING,
        node: str = "",
    ) -> Presence:
        """``node``: what Celery calls it."""
        host = socket.gethostname()
        row = Worker.objects.create(
            name=identity.named(node or host[:60], os.getpid()),
            backend=backend,
            state=state,
            host=host[:100],
            pid=os.getpid(),
            queues=sorted(queues),
            kinds=sorted(kinds),
            slots=slots,
        )
        identity.worker = row.name
        return cls(row)

    def serves(self, queues: Iterable[str], slots: int) -> None:
        """What it reads and how much it runs at once, which may change while it lives."""
        self._row.queues = sorted(queues)
        self._row.slots = slots

    def claimed(self) -> None:
        self._claimed = True

    def beat(
        self, state: WorkerState, running: int, workspaces: list[UUID], sandbox: str | None
    ) -> None:
        """Write the row when something changed, and every few seconds anyway.

        ``sandbox``: None leaves that to whoever runs the commands, see ``sandboxed``.
        """
        places = sorted(str(workspace) for workspace in workspaces)
        queues, slots = self._row.queues, self._row.slots
        said = (state, places, sandbox, running < slots, queues, slots)
        if said == self._said and time.monotonic() - self._beaten < BEAT_EVERY:
            return
        self._said, self._beaten = said, time.monotonic()
        more = {} if sandbox is None else {"sandbox": sandbox}
        self.say(state, running, workspaces=places, queues=queues, slots=slots, **more)

    def say(self, state: WorkerState, running: int, **more: object) -> None:
        if self._claimed:
            more["claimed_at"] = Now()
            self._claimed = False
        row = Worker.objects.filter(pk=self._row.pk)
        if not row.update(state=state, running=running, seen_at=Now(), **more):
            # Taken for dead and forgotten, as after a night's sleep of the machine.
            self._row.save(force_insert=True)
            row.update(state=state, running=running, seen_at=Now(), **more)


def sandboxed(worker: str, kind: str) -> None:
    """What holds commands of tasks, as a process of that worker's pool has found."""
    Worker.objects.filter(name=worker).exclude(sandbox=kind).update(sandbox=kind)


def claims(worker: str) -> None:
    """A process of that worker's pool has claimed something."""
    Worker.objects.filter(name=worker).update(claimed_at=Now())

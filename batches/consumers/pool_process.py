"""What a process of a Celery worker's pool does with a message: one lease, in its own slot."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection

from agents.contract import lease_clock
from batches import registry
from batches.backends.database import wake
from batches.consumers.celery_record import CeleryRecord
from batches.consumers.poller import BUSY_TICK, PATIENCE
from batches.consumers.presence import claims, sandboxed
from batches.consumers.scratch import scratch_folder
from batches.models import Task, Workspace
from batches.places import openable
from batches.queue.claim import Claimed
from batches.queue.claim_by_id import NotHere, claim_by_id
from batches.queue.dispatch import not_here, not_told
from batches.queue.walk import Claimant
from batches.states import AttemptOutcome, BackendName, TaskState
from batches.supervision.supervisor import Profile, Supervisor
from batches.supervision.watch import Watch

logger = logging.getLogger(__name__)

T = TypeVar("T")
REST_SECONDS = 1.0
"""Without a message, after which the database connection is looked at before it is used."""
STARTED_AFTER = 0.2
WAKE_EVERY = 0.2
PLACES_EVERY = 5.0
"""Seconds between looks at which workspaces can be opened here."""
CLAIMS_EVERY = 5.0
"""Seconds after which the worker's row is told again that something was claimed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a message led to: what the row says now, of the attempt or instead of one."""

    state: str
    failure: str
    error: str


class PoolProcess:
    """The supervisor of one pool process. Its slot stays between messages."""

    def __init__(self, worker: str, *, first: bool = True) -> None:
        """``first``: its worker has just started, and should hear what holds commands here."""
        self._worker = worker
        self._kinds = registry.kinds()
        self._places: dict[UUID, Workspace] = {}
        self._places_at = float("-inf")
        self._claimed: Claimed | None = None
        self._expires = 0.0
        self._ran_at = self._woken = self._said_claim = float("-inf")
        self._said_started = False
        self._said_sandbox = ""
        self._record = CeleryRecord()
        self._cleanup = contextlib.ExitStack()
        scratch = self._cleanup.enter_context(scratch_folder(f"{worker}-{os.getpid()}"))
        self.supervisor = Supervisor(Profile(1, self._kinds, scratch), self._record)
        if first:
            self.supervisor.ask_for_sandbox()
        self._watch = Watch(self.supervisor)

    def run(self, task: UUID, hostname: str) -> Ended | None:
        """Claim the task that a message named, run it and settle it.

        None: it may not run now, or its answer came too late to count. What was cancelled or failed
        while its message was in the broker has ended so.
        """
        if time.monotonic() - self._ran_at > REST_SECONDS:
            close_old_connections()  # one that broke meanwhile is replaced
        self._hear(0.0)  # the slot may have gone, or ended for good, since the last message
        try:
            claimed = _insisted(partial(self._claim, task))
        except NotHere as error:
            logger.warning("left to other workers: %s", error, extra={"task": task})
            _insisted(partial(not_here, task))
            return None
        if claimed is None:
            _insisted(partial(not_told, [task]))
            return _insisted(partial(_never_begun, task))
        self._claimed = claimed
        self._record.of(claimed, hostname)
        self.supervisor.workspaces = self._places
        self._said_started = False
        self.supervisor.offer([claimed], self._expires)
        if time.monotonic() - self._said_claim > CLAIMS_EVERY:
            self._said_claim = time.monotonic()
            _insisted(partial(claims, self._worker))
        return self.finish()

    def close(self) -> None:
        """Hand back what runs, and leave nothing behind."""
        self.supervisor.stop_now()
        try:
            self.supervisor.ledger.commit()
        except DatabaseError:
            logger.exception("what ran is not handed back: its lease will run out")
        self._cleanup.close()

    def time_is_up(self) -> None:
        """Celery's own limit was reached, behind the task's: end what runs."""
        leases = [job.claimed.lease for job in self.supervisor.held()]
        self.supervisor.drop(leases, AttemptOutcome.TIMEOUT, "Celery's time limit was reached.")

    def finish(self) -> Ended | None:
        """Wait for the end of what runs; None: its answer came too late to count."""
        began = time.monotonic()
        while self.supervisor.busy:
            _insisted(self._turn)
            if not self._said_started and time.monotonic() - began > STARTED_AFTER:
                # One that takes no time is spared it: its end follows at once.
                self._said_started = True
                self._record.say_started(STARTED_AFTER)
        self._ran_at = time.monotonic()
        if (kind := self.supervisor.sandbox) != self._said_sandbox:
            self._said_sandbox = kind
            _insisted(partial(sandboxed, self._worker, kind))
        settled = self._record.ended.pop(self._claimed.lease, None) if self._claimed else None
        self._record.ended.clear()  # handed back before it was begun
        # What follows may be told of at once; the dispatcher sees by itself that there is room.
        follows = settled is not None and settled.has_dependents
        if follows or self._ran_at - self._woken > WAKE_EVERY:
            self._woken = self._ran_at
            _insisted(wake)
        if settled is None:
            return None
        return Ended(settled.state, settled.failure, settled.error)

    def _turn(self) -> None:
        self._hear(BUSY_TICK)
        self._watch.turn()
        self.supervisor.assign()
        self.supervisor.ledger.commit()

    def _hear(self, pause: float) -> None:
        """What the slot says, waiting for it at most so many seconds."""
        [slot] = self.supervisor.slots
        poll = select.poll()
        writing = select.POLLOUT if slot.has_more_to_write else 0
        poll.register(slot.fileno(), select.POLLIN | writing)
        ready = poll.poll(pause * 1000)
        if ready:
            slot.flush()
        if ready or slot.inbox:
            self.supervisor.hear(slot)

    def _claim(self, task: UUID) -> Claimed | None:
        """Claim it; whether its workspace can be opened here is known for a few seconds."""
        self._expires = lease_clock() + settings.LEASE_SECONDS
        if time.monotonic() - self._places_at < PLACES_EVERY:
            with contextlib.suppress(NotHere):
                return claim_by_id(self._claimant(), task)
        self._said_sandbox = ""  # its worker's row may have been lost and made anew
        self._places = openable()
        self._places_at = time.monotonic()
        return claim_by_id(self._claimant(), task)

    def _claimant(self) -> Claimant:
        return Claimant(
            worker=self._worker, backend=BackendName.CELERY, workspaces=frozenset(self._places)
        )


def _never_begun(task: UUID) -> Ended | None:
    """How a row ended before anything of it ran: by now Flower takes it for started."""
    row = (
        Task.objects.filter(pk=task, attempt=0, state__in=(TaskState.FAILED, TaskState.CANCELLED))
        .values_list("state", "failure", "error")
        .first()
    )
    return Ended(*row) if row else None


def _insisted(step: Callable[[], T]) -> T:
    """Do what needs the database; while it is away, try again: the message waits as long."""
    failures = 0
    while True:
        try:
            return step()
        except DatabaseError as error:
            failures += 1
            logger.error("the database failed, trying again: %s", error)  # noqa: TRY400
            connection.close()
            time.sleep(PATIENCE[min(failures, len(PATIENCE)) - 1])

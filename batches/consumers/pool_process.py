"""What a process of a Celery worker's pool does with a message: one lease, in its own slot."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection, transaction
from django.utils import timezone

from agents.contract import JSON, lease_clock
from batches import mirror, registry
from batches.backends.database import wake
from batches.celery_words import STARTED, celery_status
from batches.consumers.poller import BUSY_TICK, PATIENCE
from batches.consumers.scratch import scratch_folder
from batches.models import Task, Workspace
from batches.places import openable
from batches.queue.claim import Claimed, Lease, NotHere, claim_by_id
from batches.queue.dispatch import not_here, not_told
from batches.queue.lease import holds
from batches.queue.settle import Settled
from batches.queue.verdicts import Verdict
from batches.queue.walk import Claimant
from batches.states import AttemptOutcome, BackendName, TaskState
from batches.supervision.supervisor import Profile, Supervisor
from batches.supervision.watch import Watch

logger = logging.getLogger(__name__)

T = TypeVar("T")
REST_SECONDS = 1.0
"""Without a message, after which the database connection is looked at before it is used."""
STARTED_AFTER = 0.2
WAKE_EVERY = 0.05
PLACES_EVERY = 5.0
"""Seconds between looks at which workspaces can be opened here."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a message led to: what the row says now, of the attempt or instead of one."""

    state: str
    failure: str
    error: str
    has_dependents: bool = False


class PoolProcess:
    """The supervisor of one pool process. Its slot stays between messages."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._kinds = registry.kinds()
        self._places: dict[UUID, Workspace] = {}
        self._places_at = float("-inf")
        self._claimed: Claimed | None = None
        self._expires = 0.0
        self._ran_at = self._woken = float("-inf")
        self._said_started = False
        self._hostname = ""
        self._ended: dict[Lease, Ended] = {}
        self._cleanup = contextlib.ExitStack()
        scratch = self._cleanup.enter_context(scratch_folder(f"{worker}-{os.getpid()}"))
        self.supervisor = Supervisor(Profile(1, self._kinds, scratch), self._mirror)
        self._watch = Watch(self.supervisor)

    def run(self, task: UUID, hostname: str) -> Ended | None:
        """Claim the task that a message named, run it and settle it.

        None: it may not run now, or its answer came too late to count. What was cancelled or failed
        while its message was in the broker has ended so.
        """
        if time.monotonic() - self._ran_at > REST_SECONDS:
            close_old_connections()  # one that broke meanwhile is replaced
        self._hostname = hostname
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
        self.supervisor.workspaces = self._places
        self._said_started = False
        self.supervisor.offer([claimed], self._expires)
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
                self._say_started()
        self._ran_at = time.monotonic()
        ended = self._ended.pop(self._claimed.lease, None) if self._claimed else None
        # What follows may be told of at once; the dispatcher sees by itself that there is room.
        follows = ended is not None and ended.has_dependents
        if follows or self._ran_at - self._woken > WAKE_EVERY:
            self._woken = self._ran_at
            _insisted(wake)
        return ended

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
        self._places = openable()
        self._places_at = time.monotonic()
        return claim_by_id(self._claimant(), task)

    def _claimant(self) -> Claimant:
        return Claimant(
            worker=self._worker, backend=BackendName.CELERY, workspaces=frozenset(self._places)
        )

    def _say_started(self) -> None:
        """In Celery's record. A task that takes no time is spared it: its end follows at once.

        Only while the lease holds: another worker may have written the end.
        """
        self._said_started = True
        job = next(self.supervisor.held(), None)
        if job is None:
            return
        try:
            with transaction.atomic():
                if holds(job.claimed.lease):
                    began = timezone.now() - timedelta(seconds=STARTED_AFTER)
                    mirror.write([self._record(job.claimed, STARTED, began)])
        except DatabaseError:
            logger.exception("Celery's record of %s stays behind", job.claimed.lease.task_id)
            connection.close()

    def _mirror(self, entries: Sequence[tuple[Verdict, Settled]]) -> None:
        """Celery's record, in the transaction that settles the row."""
        claimed = self._claimed
        records = []
        for verdict, settled in entries:
            if claimed is None or verdict.lease != claimed.lease:
                continue  # handed back without having been begun
            began = timezone.now() - timedelta(seconds=verdict.seconds)
            status = celery_status(settled.state, verdict.lease.attempt)
            records.append(
                self._record(claimed, status, began, verdict.result, settled.failure, verdict.error)
            )
            self._ended[verdict.lease] = Ended(
                settled.state, settled.failure, verdict.error, settled.has_dependents
            )
        mirror.write(records)

    def _record(
        self,
        claimed: Claimed,
        status: str,
        began: datetime,
        result: JSON | None = None,
        failure: str = "",
        error: str = "",
    ) -> mirror.Record:
        return mirror.Record(
            task_id=claimed.lease.task_id,
            kind=claimed.kind,
            status=status,
            worker=self._hostname,
            started_at=began,
            result=result,
            failure=failure,
            error=error,
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

"""Watching over what runs: timeouts, cancels, renewals, probes, and who is held up by whom."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable
from uuid import UUID

from django.conf import settings

from agents.contract import lease_clock
from batches.backends.database import wake
from batches.queue import lease as leases
from batches.queue import resources
from batches.states import AttemptOutcome
from batches.supervision.slots import SlotProcess
from batches.supervision.supervisor import Supervisor

logger = logging.getLogger(__name__)

CANCELS_EVERY = 0.5
"""Seconds between looks for cancels: one is noticed within two, on a busy machine too."""
RELEASE_AFTER = 0.5
"""Seconds a job may wait for a slot before other workers may have it."""
START_TIMEOUT = 60.0
PROBE_TIMEOUT = 20.0
"""Seconds for a slot to get ready, and for a probe to answer."""
TIDY_TIMEOUT = 120.0
"""Seconds for clearing up after an attempt: a large checkout may have to be removed."""


class Watch:
    """Called at every turn of the supervisor's loop, at least every 50 ms while it is busy."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._renewed = self._looked = time.monotonic()

    def turn(self) -> None:
        now = time.monotonic()
        for slot in self._supervisor.slots:
            self._look_at(slot, now)
        self._supervisor.hand_back(RELEASE_AFTER)
        while self._supervisor.returned:
            resources.mark_back(self._supervisor.returned[0])
            self._supervisor.returned.pop(0)
            wake()
        if now - self._looked >= CANCELS_EVERY:
            self._stop_cancelled(now)
            self._looked = now
        if now - self._renewed >= settings.LEASE_SECONDS / 3:
            self._renew(now)

    def _look_at(self, slot: SlotProcess, now: float) -> None:
        if not slot.ready:
            if now - slot.started > START_TIMEOUT:
                self._supervisor.replace(
                    slot, AttemptOutcome.LOST, "The process that should run it did not start."
                )
        elif slot.probing and now - slot.begun > PROBE_TIMEOUT:
            self._supervisor.replace(slot, AttemptOutcome.LOST, "A probe hung in its slot.")
        elif slot.tidying and now - slot.begun > TIDY_TIMEOUT:
            logger.error("clearing up after a killed attempt took too long")
            self._supervisor.replace(slot, AttemptOutcome.LOST, "Clearing up hung in its slot.")
        elif slot.jobs and now - slot.begun > slot.jobs[0].claimed.timeout:
            limit = slot.jobs[0].claimed.timeout
            self._supervisor.replace(
                slot, AttemptOutcome.TIMEOUT, f"It was stopped after {limit:.0f} seconds."
            )
        elif len(slot.jobs) > 1 and slot.held_up:
            slot.recall()

    def _renew(self, now: float) -> None:
        """Extend every lease held here; stop work whose lease is lost.

        When the database fails, the next turn tries again.
        """
        expires = lease_clock() + settings.LEASE_SECONDS
        held = list(self._supervisor.held())
        renewal = leases.renew([job.claimed.lease for job in held])
        renewed = [job for job in held if job.claimed.lease in renewal.renewed]
        for job in renewed:
            job.expires = expires
        if renewal.lost:
            self._supervisor.drop(renewal.lost, AttemptOutcome.LOST, "The lease was lost.")
        for slot in self._supervisor.slots:
            if slot.jobs:
                soonest = min(job.expires for job in slot.jobs)
                slot.send({"op": "renewed", "lease": soonest - lease_clock()})
        all_answered = len(renewed) + len(renewal.lost) == len(held)
        # A row that another writer had locked was passed over: ask again in a second.
        self._renewed = now if all_answered else now - settings.LEASE_SECONDS / 3 + 1.0

    def _stop_cancelled(self, now: float) -> None:
        old_enough = [
            job.claimed.lease
            for slot in self._supervisor.slots
            if now - slot.begun > CANCELS_EVERY
            for job in slot.jobs
        ]
        waiting = [job.claimed.lease for job in self._supervisor.backlog]
        if wanted := leases.cancel_wanted([*old_enough, *waiting]):
            self._supervisor.drop(wanted, AttemptOutcome.CANCELLED, "It was cancelled.")

    def idle_slots(self) -> list[SlotProcess]:
        return [slot for slot in self._supervisor.slots if slot.idle]

    def let_tidy(self, untidied: deque[tuple[str, UUID]]) -> None:
        """Let idle slots clear up what lost attempts left, and take that from the list."""
        for slot in self.idle_slots():
            if not untidied:
                return
            self._supervisor.let_tidy(slot, *untidied.popleft())

    def probe(self, due: Iterable[tuple[str, str]]) -> None:
        """Ask idle slots whether these resources are back: pairs of resource and kind."""
        pairs = list(zip(due, self.idle_slots(), strict=False))
        self._supervisor.tell({kind for (_, kind), _ in pairs})
        for (resource, kind), slot in pairs:
            slot.probe(resource, self._supervisor.profile.kinds[kind].processor_path)

"""The database worker: claims for its slots, as long as there is room and something to run."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from agents.contract import lease_clock
from batches import registry
from batches.consumers.presence import Presence
from batches.consumers.scratch import scratch_folder
from batches.consumers.upkeep import UpkeepThread
from batches.consumers.wakeup import Wakeup
from batches.queue import resources
from batches.queue.claim import claim
from batches.queue.schedule import seconds_until_due, wake_due
from batches.queue.walk import Claimant
from batches.states import BackendName, TaskState, WorkerState
from batches.supervision.supervisor import Profile, Supervisor
from batches.supervision.watch import Watch

logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds after which it looks by itself: being woken is only a hint."""
BUSY_TICK = 0.05
"""Longest pause while anything runs: timeouts and recalls are noticed within it."""
PATIENCE = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before the database is tried again after an error."""


@dataclass(slots=True)
class Stop:
    """How far the end has come: 0 go on, 1 drain, 2 hand back at once."""

    stage: int = 0

    def step(self, signum: int, _: FrameType | None) -> None:
        self.stage += 1
        logger.info(
            "%s: %s",
            signal.Signals(signum).name,
            "finishing what runs" if self.stage == 1 else "handing everything back",
        )


class Poller:
    """One database worker."""

    def __init__(self, queues: frozenset[str], slots: int) -> None:
        self.stop = Stop()
        self.kinds = registry.kinds()
        self.presence = Presence.announce(queues, self.kinds, slots)
        self.claimant = Claimant(
            worker=self.presence.name, backend=BackendName.DATABASE, queues=queues
        )
        self._slots = slots
        self._hungry = True
        self._looked = 0.0
        self._due_at: float | None = None
        self._failures = 0

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; a second one hands back what runs."""
        with (
            _signals(self.stop) as interrupts,
            scratch_folder(self.presence.name) as scratch,
            UpkeepThread() as self._upkeep,
            Wakeup() as wakeup,
        ):
            self.supervisor = Supervisor(Profile(self._slots, self.kinds, scratch))
            self.supervisor.ask_for_sandbox()
            self.watch = Watch(self.supervisor)
            try:
                while not self._finished():
                    self._sleep(wakeup, interrupts)
                    self._guarded(self._turn)
            finally:
                self.supervisor.stop_now()
                self._guarded(self._settle)
                self._guarded(lambda: self.presence.say(WorkerState.STOPPED, 0))

    def _finished(self) -> bool:
        if self.stop.stage == 0:
            return False
        self.supervisor.hand_back()
        return self.stop.stage > 1 or not self.supervisor.busy

    # -- waiting

    def _sleep(self, wakeup: Wakeup, interrupts: socket.socket) -> None:
        """Until a slot speaks, somebody wakes us, or it is time to look; then hear the slots."""
        slots = {slot.fileno(): slot for slot in self.supervisor.slots}
        poll = select.poll()
        poll.register(interrupts, select.POLLIN)
        for descriptor, slot in slots.items():
            writing = select.POLLOUT if slot.has_more_to_write else 0
            poll.register(descriptor, select.POLLIN | writing)
        ready = self._wait(poll, wakeup)
        with contextlib.suppress(BlockingIOError):
            interrupts.recv(1024)
        for descriptor, slot in slots.items():
            if descriptor in ready:
                slot.flush()
            if descriptor in ready or slot.inbox:
                self._guarded(partial(self.supervisor.hear, slot))

    def _wait(self, poll: select.poll, wakeup: Wakeup) -> set[int]:
        """The descriptors that are ready, none when it is time to look."""
        listening = self._listening
        if listening and (channel := wakeup.fileno()) is not None:
            poll.register(channel, select.POLLIN)
        deadline = time.monotonic() + self._pause()
        while True:
            pause = max(0.0, deadline - time.monotonic())
            if listening:
                pause = min(pause, wakeup.interval)
            ready = poll.poll(pause * 1000)
            if listening and wakeup.rang():
                self._hungry = True
            if ready or (listening and self._hungry) or time.monotonic() >= deadline:
                return {descriptor for descriptor, _ in ready}

    @property
    def _listening(self) -> bool:
        """Would it help to hear of new work now?"""
        return self.stop.stage == 0 and self._failures == 0 and not self.supervisor.room().full()

    def _pause(self) -> float:
        if self._failures:
            return PATIENCE[min(self._failures, len(PATIENCE)) - 1]
        if self._hungry and self._listening:
            return 0.0
        pause = BUSY_TICK if self.supervisor.busy else LOOK_EVERY
        if self._due_at is not None:
            pause = min(pause, max(0.0, self._due_at - time.monotonic()))
        return pause

    # -- one turn

    def _turn(self) -> None:
        self.watch.turn()
        self._settle()
        if time.monotonic() - self._looked >= LOOK_EVERY:
            self._look()
        if self._due_at is not None and time.monotonic() >= self._due_at:
            wake_due()
            self._when_due()
            self._hungry = True
        if self.stop.stage == 0:
            self._claim()
        else:
            self.supervisor.hand_back()
        self._failures = 0

    def _settle(self) -> None:
        settled = self.supervisor.ledger.commit()
        if settled:
            self._hungry = True
            if any(item.state == TaskState.QUEUED and item.delay is None for item in settled):
                # A resource may have been found away: the very next claim must know.
                self.claimant = replace(self.claimant, away=resources.away())
            delays = [item.delay for item in settled if item.delay is not None]
            if delays:
                soonest = time.monotonic() + min(delays)
                self._due_at = soonest if self._due_at is None else min(self._due_at, soonest)

    def _look(self) -> None:
        """Once a second: what may have changed without anybody telling us."""
        self.supervisor.workspaces = self._upkeep.workspaces
        self.claimant = replace(
            self.claimant,
            workspaces=frozenset(self.supervisor.workspaces),
            away=resources.away(),
        )
        if self.claimant.away and (idle := self.watch.idle_slots()):
            self.watch.probe(resources.due_for_probe(self.kinds, len(idle)))
        self.watch.let_tidy(self._upkeep.untidied)
        self.presence.beat(
            WorkerState.DRAINING if self.stop.stage else WorkerState.RUNNING,
            sum(1 for _ in self.supervisor.held()),
            list(self.supervisor.workspaces),
            self.supervisor.sandbox,
        )
        self._when_due()
        self._hungry = True
        self._looked = time.monotonic()

    def _when_due(self) -> None:
        seconds = seconds_until_due()
        self._due_at = None if seconds is None else time.monotonic() + seconds

    def _claim(self) -> None:
        self.supervisor.assign()
        room = self.supervisor.room()
        if not self._hungry or room.full():
            return
        expires = lease_clock() + settings.LEASE_SECONDS
        claimed = claim(self.claimant, room)
        if self._upkeep.broker_away:
            claimed += claim(replace(self.claimant, backend=BackendName.CELERY), room)
        if claimed:
            self.supervisor.offer(claimed, expires)
            self.presence.claimed()
        self._hungry = False

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step that needs the database; if it is away, try again later.

        What was not committed stays where it is; leases that run out meanwhile are reaped.
        """
        try:
            step()
        except DatabaseError as error:
            self._failures += 1
            logger.error("the database failed, trying again: %s", error)  # noqa: TRY400
            connection.close()


@contextlib.contextmanager
def _signals(stop: Stop) -> Iterator[socket.socket]:
    """Let SIGTERM and SIGINT step towards the end, and end the current wait."""
    receiver, sender = socket.socketpair()
    receiver.setblocking(False)
    sender.setblocking(False)
    previous = {
        number: signal.signal(number, stop.step) for number in (signal.SIGTERM, signal.SIGINT)
    }
    old = signal.set_wakeup_fd(sender.fileno())
    try:
        yield receiver
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in previous.items():
            signal.signal(number, handler)
        receiver.close()
        sender.close()


def default_slots() -> int:
    """As many as there are processors this process may use."""
    return len(os.sched_getaffinity(0))

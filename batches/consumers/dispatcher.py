"""The threads of a Celery worker's main process: dispatching, its presence, probes, upkeep."""

from __future__ import annotations

import contextlib
import logging
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import connection

from batches import dispatch, mirror, operations, registry
from batches.consumers.forking import using_database
from batches.consumers.presence import Presence
from batches.consumers.scratch import scratch_folder
from batches.consumers.upkeep import UpkeepThread
from batches.consumers.wakeup import Wakeup
from batches.models import Task
from batches.queue import resources
from batches.queue.dispatch import broker_came_back, fresh_message
from batches.queue.schedule import seconds_until_due, wake_due
from batches.queue.windows import LEAST_WINDOW
from batches.states import WorkerState
from batches.supervision.supervisor import Profile, Supervisor
from batches.supervision.watch import Watch

logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds after which it looks by itself: being woken is only a hint."""
ROOM_WITHIN = 0.02
"""Seconds in which the room that one message left is looked at. A row is claimed a moment after its
message was taken, so that a look at that very moment may see no room, and there is one more."""
LOCKED_PAUSE = 0.05
"""Seconds before a due row that somebody has locked is looked at again."""
BUSY_TICK = 0.005
"""Seconds between looks at how many messages this worker took: that makes room for others."""
LEAST_PAUSE = 0.002
"""Seconds between two looks, however often it is woken."""
PATIENCE = 2.0
"""Seconds before a broker or a database that failed is tried again."""


class Dispatcher:
    """Keeps the windows of all queues full, as long as its worker lives."""

    def __init__(
        self,
        presence: Presence,
        running: Callable[[], int],
        taken: Callable[[], int],
        served: Callable[[], tuple[list[str], int]],
    ) -> None:
        """``running``: tasks in the pool now; ``taken``: all that the worker ever took;
        ``served``: the queues that it reads, and the size of its pool."""
        self._served = served
        self._taken = taken
        self._presence = presence
        self._running = running
        self._stop = threading.Event()
        self._draining = False
        self._looked = float("-inf")
        self._due_at: float | None = None
        self._sent_at, self._told_at, self._told_taken = float("-inf"), 0.0, 0
        self._moved = False
        """Messages came or went with the last look: there may be room that it did not see."""
        self._seen: dispatch.Surroundings | None = None
        self._away = False
        self._again = False
        self._revoked: deque[UUID] = deque()
        self._cancelling: deque[Task] = deque()
        self._upkeep = UpkeepThread()
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        self._probes = threading.Thread(target=self._probe, name="probes", daemon=True)

    def start(self) -> None:
        self._upkeep.__enter__()
        self._thread.start()
        self._probes.start()

    def drain(self) -> None:
        """The worker takes no more messages: others should not count on it."""
        self._draining = True
        self._looked = float("-inf")

    def reconnected(self) -> None:
        """The worker has lost its broker and has it again, perhaps without what was in it."""
        self._again = True

    def revoked(self, message: UUID) -> None:
        """Somebody revoked it in Flower, or by ``celery control``."""
        self._revoked.append(message)

    def stop(self) -> None:
        """End what ``start`` began, where it came so far."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._probes.join()
            self._upkeep.__exit__(None, None, None)
        self._guarded(lambda: self._presence.say(WorkerState.STOPPED, 0))

    # -- dispatching

    def _run(self) -> None:
        try:
            with Wakeup() as wakeup:
                while not self._stop.is_set():
                    self._guarded(self._look_and_tell)
                    self._wait(wakeup)
        finally:
            connection.close()

    def _wait(self, wakeup: Wakeup) -> None:
        """Until somebody calls, something is due, or it is time to look."""
        time.sleep(LEAST_PAUSE)
        deadline = time.monotonic() + (PATIENCE if self._away else LOOK_EVERY)
        if self._due_at is not None:
            deadline = min(deadline, max(self._due_at, time.monotonic()))
        poll = select.poll()
        if (channel := wakeup.fileno()) is not None:
            poll.register(channel, select.POLLIN)
        while not self._stop.is_set() and (left := deadline - time.monotonic()) > 0:
            busy = time.monotonic() - self._sent_at < LOOK_EVERY or self._running()
            poll.poll(min(left, wakeup.interval, BUSY_TICK if busy else LOOK_EVERY) * 1000)
            if wakeup.rang() and not self._away:
                return
            taken = self._taken() - self._told_taken
            if taken >= LEAST_WINDOW // 2:
                return
            if (taken or self._moved) and time.monotonic() - self._told_at > ROOM_WITHIN:
                return

    def _look_and_tell(self) -> None:
        with using_database():
            self._turn()

    def _turn(self) -> None:
        look = time.monotonic() - self._looked >= LOOK_EVERY
        if self._due_at is not None and time.monotonic() >= self._due_at:
            # One that is locked is left: no use in asking again at once.
            self._due_at = None if wake_due() else time.monotonic() + LOCKED_PAUSE
            look = self._due_at is None
        if look:
            self._looked = time.monotonic()
            self._look()
        try:
            if look:
                dispatch.repeat()
            taken, before = self._taken(), self._told_taken
            self._told_at, self._told_taken = time.monotonic(), taken
            room = taken - before >= LEAST_WINDOW // 2
            sent = dispatch.dispatch(self._seen, room=room)
            self._moved = sent > 0 or taken > before
            if sent:
                self._sent_at = self._told_at
        except dispatch.BrokerAway as error:
            if not self._away:
                logger.warning("the broker is away, tasks wait in the database: %s", error)
            self._away = True
        else:
            if self._away:
                logger.info("the broker is back")
            self._away = False

    def _look(self) -> None:
        queues, slots = self._served()
        self._presence.serves(queues, slots)
        takes = queues and slots and not self._draining
        self._presence.beat(
            WorkerState.RUNNING if takes else WorkerState.DRAINING,
            self._running(),
            list(self._upkeep.workspaces),
            None,
        )
        if self._again:
            broker_came_back()
            self._again = False
        self._cancel_revoked()
        self._seen = dispatch.Surroundings.now()
        seconds = seconds_until_due()
        self._due_at = None if seconds is None else time.monotonic() + seconds

    def _cancel_revoked(self) -> None:
        """Every worker hears of every revoke, and of some messages again when they come: only who
        finds it to be the task's own still cancels that, or it would undo a retry."""
        while self._revoked:
            message = self._revoked[0]
            row = (
                Task.objects.filter(pk=message, message_id=None).first()
                or Task.objects.unfinished().filter(message_id=message).first()
            )
            if row is not None:
                self._cancelling.append(row)
                fresh_message(row.pk)
            self._revoked.popleft()
        while self._cancelling:
            with contextlib.suppress(operations.Conflict):
                operations.cancel_task(self._cancelling[0])
            # It may have been handed back first, by the process that was terminated.
            mirror.put_right([self._cancelling[0].pk])
            self._cancelling.popleft()

    # -- probes

    def _probe(self) -> None:
        """Ask whether resources that are away are back, and clear up what lost attempts left, in a
        slot that is started for that."""
        try:
            while not self._stop.wait(LOOK_EVERY):
                self._guarded(self._probe_some)
        finally:
            connection.close()

    def _probe_some(self) -> None:
        if not (self._upkeep.untidied or self._anything_away()):
            return
        with scratch_folder(f"{self._presence.name}-probes") as scratch:
            supervisor = Supervisor(Profile(1, registry.kinds(), scratch))
            watch = Watch(supervisor)
            try:
                while self._slot_is_wanted(supervisor) and not self._stop.wait(0.05):
                    with using_database():
                        self._ask_slots(supervisor, watch)
            finally:
                with using_database():
                    supervisor.stop_now()

    def _slot_is_wanted(self, supervisor: Supervisor) -> bool:
        tidying = any(slot.tidying for slot in supervisor.slots)
        return tidying or bool(self._upkeep.untidied) or self._anything_away()

    @staticmethod
    def _anything_away() -> bool:
        with using_database():
            return bool(resources.away())

    def _ask_slots(self, supervisor: Supervisor, watch: Watch) -> None:
        supervisor.workspaces = self._upkeep.workspaces
        for slot in supervisor.slots:
            slot.flush()
            supervisor.hear(slot)
        watch.turn()
        watch.let_tidy(self._upkeep.untidied)
        if idle := watch.idle_slots():
            watch.probe(resources.due_for_probe(registry.kinds(), len(idle)))

    @staticmethod
    def _guarded(step: Callable[[], None]) -> None:
        """Run a step that must not end its thread: without it nothing would be dispatched."""
        try:
            step()
        except DatabaseError as error:
            logger.error("the database failed, trying again: %s", error)  # noqa: TRY400
            with using_database():
                connection.close()
            time.sleep(LOOK_EVERY)
        except Exception:
            logger.exception("a turn failed, trying again")
            with using_database():
                connection.close()
            time.sleep(LOOK_EVERY)

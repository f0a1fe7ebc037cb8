"""How many messages may be out, and who can be expected to take them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from batches.models import Worker
from batches.queue.walk import Lane
from batches.states import BackendName, WorkerState

LEAST_WINDOW, PER_SLOT = 8, 2
"""Messages of one queue that may wait in the broker: so many a live slot, but never fewer."""
EXPECTED_SECONDS = 2.0
"""Within which an idle worker takes a message."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A live Celery worker. ``queues`` empty: it reads all of them."""

    queues: frozenset[str]
    slots: int
    idle: bool
    workspaces: frozenset[UUID]

    def reads(self, queue: str) -> bool:
        return not self.queues or queue in self.queues


def readers() -> list[Reader]:
    """The Celery workers that were heard of lately."""
    running = Worker.objects.live().filter(state=WorkerState.RUNNING)
    return [
        Reader(
            queues=frozenset(row.queues),
            slots=row.slots,
            idle=row.running < row.slots,
            workspaces=frozenset(UUID(place) for place in row.workspaces),
        )
        for row in running.filter(backend=BackendName.CELERY)
    ]


def window(queue: str, live: Iterable[Reader]) -> int:
    """Most messages of a queue in the broker at one time."""
    slots = sum(reader.slots for reader in live if reader.reads(queue))
    return max(LEAST_WINDOW, PER_SLOT * slots)


@dataclass(frozen=True, slots=True)
class Out:
    """Messages that are out: told, and not yet claimed. All of one batch and priority."""

    queue: str
    batch: UUID
    priority: int
    number: int
    age: float
    """Seconds since the last of them was sent."""


class Outstanding:
    """All of them, and what they leave room for."""

    def __init__(self, live: Sequence[Reader], out: Iterable[Out] = ()) -> None:
        self.live = live
        self.by_queue: Counter[str] = Counter()
        self.by_batch: Counter[UUID] = Counter()
        self._urgent = [-1] * len(live)
        """For each reader the highest priority of a message that it can be expected to take."""
        for messages in out:
            self.add(messages)

    def add(self, messages: Out) -> None:
        self.by_queue[messages.queue] += messages.number
        self.by_batch[messages.batch] += messages.number
        for number, reader in enumerate(self.live):
            # One that nobody took although there was time is lost: nothing waits behind it.
            lost = reader.idle and messages.age > EXPECTED_SECONDS
            if reader.reads(messages.queue) and not lost:
                self._urgent[number] = max(self._urgent[number], messages.priority)

    def room(self, queue: str) -> int:
        """None while more than half of the window is out: messages are sent several at a time."""
        most, out = window(queue, self.live), self.by_queue[queue]
        return 0 if 2 * out > most else most - out

    def wants(self, lane: Lane) -> bool:
        """Has anybody who reads its queue nothing more urgent to take first?"""
        reading = [number for number, reader in enumerate(self.live) if reader.reads(lane.queue)]
        return not reading or any(self._urgent[number] <= lane.priority for number in reading)

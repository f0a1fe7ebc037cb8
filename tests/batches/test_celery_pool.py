"""A process of Celery's pool that has closed its pipe, but not ended yet, when Celery looks."""

import subprocess
import time
from collections.abc import Iterator

import pytest
from kombu.asynchronous import Hub

from batches.consumers.event_loop import replace_at_once
from tests.patience import PATIENCE

pytestmark = pytest.mark.either


class Process:
    """One that ends when it is told to."""

    def __init__(self) -> None:
        self._running = subprocess.Popen(["cat"], stdin=subprocess.PIPE)

    @property
    def exitcode(self) -> int | None:
        return self._running.poll()

    def end(self) -> None:
        self._running.communicate()


class Pool:
    """Takes note of how the process stood whenever it was looked at, as Celery's pool would."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.seen: list[int | None] = []

    def maintain_pool(self) -> None:
        self.seen.append(self._process.exitcode)

    def _event_process_exit(self, hub: Hub, process: Process) -> None:
        self.maintain_pool()


@pytest.fixture
def process() -> Iterator[Process]:
    started = Process()
    yield started
    started.end()


def test_it_is_looked_for_until_it_has_ended(process: Process) -> None:
    pool, hub = Pool(process), Hub()
    for _ in range(2):
        replace_at_once(pool)  # as at a second connection to the broker
    pool._event_process_exit(hub, process)
    for _ in range(3):
        time.sleep(0.03)
        hub.fire_timers()
    assert pool.seen == [None]
    process.end()
    deadline = time.monotonic() + PATIENCE
    while len(pool.seen) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
        hub.fire_timers()
    assert pool.seen == [None, 0]
    hub.close()

"""Celery workers, broker and database that fail again and again: each task ends exactly once.

The whole of it, with a PostgreSQL server that is stopped: ``python -m tests.chaos``.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

from batches.models import Attempt, Batch, Task
from batches.states import TaskState
from tests.brokers import Broker
from tests.patience import PATIENCE
from tests.processes.fleet import Fleet, done, submit, until

pytestmark = [pytest.mark.backends("redis", "rabbitmq"), pytest.mark.long]

TASKS = int(os.environ.get("CHAOS_TASKS", "180"))
SECONDS = 0.15
"""That a task takes."""
KILL_EVERY = float(os.environ.get("CHAOS_KILL_EVERY", "5"))
"""Seconds at least. However slow the machine is, a task was settled since the last kill."""
WORKERS, SLOTS, LEASE = 3, 2, 3


class Chaos:
    """What goes wrong, and when."""

    def __init__(self, fleet: Fleet, broker: Broker, restart_database: Callable[[], None]) -> None:
        self._fleet = fleet
        self._broker = broker
        self._restart_database = restart_database
        self._chance = random.Random()
        self.happened: Counter[str] = Counter()
        for _ in range(WORKERS):
            self._start()

    def _start(self) -> None:
        self._fleet.start(slots=SLOTS, LEASE_SECONDS=LEASE, up=False)

    def _live(self) -> list[int]:
        return [n for n, one in enumerate(self._fleet.workers) if one.process.poll() is None]

    def kill(self) -> None:
        """A worker and its pool, as when a machine is lost; another one comes."""
        self._fleet.workers[self._chance.choice(self._live())].kill()
        self._start()

    def freeze(self) -> None:
        """A worker is stopped past its leases and comes back."""
        worker = self._fleet.workers[self._live()[-1]]
        worker.wait_until_up()
        worker.freeze()
        time.sleep(LEASE + 2)
        worker.thaw()

    def broker(self) -> None:
        """Killed at first, later started again as its operator does."""
        if self.happened["broker"]:
            self._broker.restart()
        else:
            self._broker.kill()
            self._broker.start()

    def database(self) -> None:
        self._restart_database()
        connection.close()

    def do(self, what: str) -> None:
        getattr(self, what)()
        self.happened[what] += 1


def left() -> int:
    return Task.objects.unfinished().count()


def check(batches: list[Batch], effects: Path) -> None:
    """Each task was settled once, by its last attempt; each attempt ran at most once."""
    runs = Counter(tuple(line.split()) for line in effects.read_text().splitlines())
    assert set(runs.values()) == {1}
    story: dict[object, list[tuple[int, str]]] = {}
    for task, number, outcome in Attempt.objects.order_by("task", "number").values_list(
        "task_id", "number", "outcome"
    ):
        story.setdefault(task, []).append((number, outcome))
    for batch in batches:
        assert batch.summary["succeeded"] == batch.total
    for pk, state, attempt in Task.objects.values_list("pk", "state", "attempt"):
        numbers, outcomes = zip(*story[pk], strict=True)
        assert state == TaskState.SUCCEEDED
        assert list(numbers) == list(range(1, attempt + 1))
        assert outcomes[-1] == "succeeded"
        assert set(outcomes[:-1]) <= {"lost", "released"}
        assert runs[str(pk), str(attempt)] == 1


@pytest.mark.timeout(900)
def test_whatever_fails_every_task_is_settled_once(
    fleet: Fleet, broker: Broker, tmp_path: Path, restart_database: Callable[[], None]
) -> None:
    effects = tmp_path / "effects"
    payload = {"file": str(effects), "seconds": SECONDS}
    batches = [
        submit("append", *[payload] * (TASKS // 2), max_attempts=100, priority=priority)
        for priority in (8, 2)
    ]
    chaos = Chaos(fleet, broker, restart_database)
    until(lambda: left() < TASKS, what="some are done")
    # Spread over what the whole takes, as far as it has come.
    plan = [
        (0.9, "broker"), (0.8, "kill"), (0.7, "database"), (0.5, "freeze"), (0.4, "kill"),
        (0.3, "broker"),
    ]  # fmt: skip
    began = killed = time.monotonic()
    before = left()
    while left() > TASKS * 0.1:
        time.sleep(0.2)
        if time.monotonic() - killed > KILL_EVERY and left() < before:
            chaos.do("kill")
            killed, before = time.monotonic(), left()
        while plan and left() < TASKS * plan[0][0]:
            chaos.do(plan.pop(0)[1])
    for _, what in plan:
        chaos.do(what)
    finished = [done(batch, within=3 * PATIENCE) for batch in batches]
    print(
        f"{TASKS} tasks in {time.monotonic() - began:.0f} s: {dict(chaos.happened)}, "
        f"{Attempt.objects.exclude(outcome='succeeded').count()} attempts lost or handed back"
    )
    assert chaos.happened["broker"] == 2
    assert chaos.happened["kill"] >= 2
    check(finished, effects)

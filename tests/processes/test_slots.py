"""A supervisor and its slot processes, turned by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from agents.contract import lease_clock
from batches import registry
from batches.models import Attempt, Task
from batches.supervision import watch
from batches.supervision.supervisor import Profile, Supervisor
from batches.supervision.watch import Watch
from tests.patience import PATIENCE
from tests.processes.fleet import submit
from tests.queueing import take

# What a supervisor decides is the same on every database.
pytestmark = [pytest.mark.either, pytest.mark.usefixtures("transactional_db")]


class Turned:
    """The loop of a worker, but for the claiming."""

    def __init__(self, slots: int, scratch: Path) -> None:
        self.supervisor = Supervisor(Profile(slots, registry.kinds(), scratch))
        self.watch = Watch(self.supervisor)
        self.recalls = 0

    def turn(self) -> None:
        for slot in list(self.supervisor.slots):
            before = slot.recalling
            slot.flush()
            self.supervisor.hear(slot)
            self.watch.turn()
            self.recalls += slot.recalling and not before
        self.supervisor.assign()
        self.supervisor.ledger.commit()
        time.sleep(0.005)

    def until(self, look: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not look():
            assert time.monotonic() < deadline, "it did not happen in time"
            self.turn()

    def offer(self, number: int) -> None:
        self.supervisor.offer(take(number), lease_clock() + 60)

    @property
    def ready(self) -> bool:
        return all(slot.ready for slot in self.supervisor.slots)


@pytest.fixture
def turned(tmp_path: Path) -> Iterator[Callable[[int], Turned]]:
    made = []

    def make(slots: int) -> Turned:
        made.append(Turned(slots, tmp_path))
        made[-1].until(lambda: made[-1].ready)
        return made[-1]

    yield make
    for each in made:
        each.supervisor.stop_now()


def test_what_waits_behind_long_jobs_is_not_passed_around(
    turned: Callable[[int], Turned], tmp_path: Path
) -> None:
    loop = turned(2)
    quick = {"file": str(tmp_path / "effects")}
    submit("append", *[quick] * 60)
    for _ in range(6):
        loop.offer(10)
        loop.until(lambda: not loop.supervisor.busy)
    assert loop.supervisor.pace.depth("append") > 1

    submit("append", *[quick | {"seconds": 1.0}] * 2, *[quick] * 20)
    loop.offer(22)
    time.sleep(0.15)
    loop.until(lambda: len(loop.supervisor.backlog) == 20)
    began, before = time.monotonic(), loop.recalls
    while time.monotonic() - began < 0.3:
        loop.turn()
    assert loop.recalls == before
    assert len(loop.supervisor.backlog) == 20
    assert loop.supervisor.room().full()


def test_a_hanging_probe_is_ended_and_its_slot_replaced(
    turned: Callable[[int], Turned], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "PROBE_TIMEOUT", 0.2)
    loop = turned(1)
    [slot] = loop.supervisor.slots
    loop.watch.probe([("model:x", "hang")])
    assert slot.closed
    loop.until(lambda: loop.supervisor.slots[0] is not slot)
    assert slot.dead
    loop.until(lambda: loop.ready)
    assert loop.supervisor.returned == []
    assert loop.watch.idle_slots()


def test_a_slot_that_is_stopped_is_charged_to_the_task_that_ran_in_it(
    turned: Callable[[int], Turned], tmp_path: Path
) -> None:
    """The first had answered before the slot was stopped: the second, begun since, is released."""
    loop = turned(1)
    submit("sleep", {"seconds": 0.0}, {"seconds": 600})
    loop.offer(2)
    [slot] = loop.supervisor.slots
    first, second = (job.id for job in loop.supervisor.held())
    slot.give(list(loop.supervisor.backlog))
    loop.supervisor.backlog.clear()
    assert [job.id for job in slot.jobs] == [first, second]
    time.sleep(0.3)  # its answer waits in the socket

    loop.supervisor.replace(slot, watch.AttemptOutcome.TIMEOUT, "It was stopped.")
    loop.supervisor.ledger.commit()

    outcomes = dict(Attempt.objects.values_list("task", "outcome"))
    assert {str(task): outcome for task, outcome in outcomes.items()} == {
        first: "succeeded",
        second: "released",
    }
    assert Task.objects.get(pk=second).failures == 0


@pytest.fixture(autouse=True)
def tester(transactional_db: None) -> None:
    User.objects.create_user("tester")

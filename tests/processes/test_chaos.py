"""A worker that is killed again and again: every task ends exactly once, and none is lost."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from batches.models import Attempt, Batch, Task
from batches.states import AttemptOutcome, TaskState
from tests.processes.fleet import Fleet, WorkerProcess, done, submit, until

KILLS = 10
SHORT, LONG = 1_800, 200
LONG_SECONDS = 2.02
SLOTS, SLOTS_AT_THE_END = 5, 24


def submit_mixed(effects: Path, chance: random.Random) -> list[Batch]:
    """All tasks in two batches, a tenth of them long, in any order."""
    payloads = [{"file": str(effects)} for _ in range(SHORT)]
    payloads += [{"file": str(effects), "seconds": LONG_SECONDS} for _ in range(LONG)]
    chance.shuffle(payloads)
    half = len(payloads) // 2
    return [
        submit("append", *payloads[:half], max_attempts=20, priority=8),
        submit("append", *payloads[half:], max_attempts=20),
    ]


def kill_while_running(worker: WorkerProcess, moment: float) -> str:
    """Kill a worker some time after it began a task that is still running; returns its name."""
    worker.wait_until_up()
    name = worker.name
    # A long one: a short one may have been settled between the look and the kill.
    running = Task.objects.filter(
        worker=name, state=TaskState.RUNNING, payload__seconds=LONG_SECONDS
    )
    until(running.exists, what="it runs something")
    time.sleep(moment)
    until(running.exists, what="it runs something still")
    worker.kill()
    return name


def check_effects(effects: Path) -> None:
    """Each line is a run: between one and the attempts of its task, each attempt at most once."""
    runs = Counter(tuple(line.split()) for line in effects.read_text().splitlines())
    assert set(runs.values()) == {1}
    by_task: dict[str, set[int]] = {}
    for task, attempt in runs:
        by_task.setdefault(task, set()).add(int(attempt))
    attempts = {str(task.pk): task.attempt for task in Task.objects.all()}
    assert by_task.keys() == attempts.keys()
    for task, numbers in by_task.items():
        assert numbers <= set(range(1, attempts[task] + 1))
        assert attempts[task] in numbers


def check_attempts() -> None:
    """Numbered from 1 without a gap; the last one succeeded, the others were lost, or handed back
    unstarted at no cost because a long task held them up."""
    story: dict[object, list[tuple[int, str]]] = {}
    for task, number, outcome in Attempt.objects.order_by("task", "number").values_list(
        "task_id", "number", "outcome"
    ):
        story.setdefault(task, []).append((number, outcome))
    tasks = Task.objects.values_list("pk", "state", "attempt", "failures")
    assert len(story) == len(tasks) == SHORT + LONG
    for pk, state, attempt, failures in tasks:
        numbers, outcomes = zip(*story[pk], strict=True)
        assert state == TaskState.SUCCEEDED
        assert list(numbers) == list(range(1, attempt + 1))
        assert outcomes[-1] == "succeeded"
        assert set(outcomes[:-1]) <= {"lost", "released"}
        assert failures == outcomes.count("lost")


@pytest.mark.long
def test_ten_kills_lose_nothing_and_double_no_result(fleet: Fleet, tmp_path: Path) -> None:
    chance = random.Random()
    effects = tmp_path / "effects"
    batches = submit_mixed(effects, chance)
    killed = []
    # The next one starts while the one before still works, so that the test is shorter.
    worker = fleet.start(slots=SLOTS, LEASE_SECONDS=3, up=False)
    for _ in range(KILLS):
        following = fleet.start(slots=SLOTS, LEASE_SECONDS=3, up=False)
        killed.append(kill_while_running(worker, chance.uniform(0, 0.5)))
        worker = following
    assert Task.objects.unfinished().exists()
    fleet.start(slots=SLOTS_AT_THE_END, LEASE_SECONDS=3, up=False)
    for batch in batches:
        summary = done(batch).summary
        assert summary == {
            "succeeded": (SHORT + LONG) // 2,
            "failed": 0,
            "cancelled": 0,
            "failures": {},
        }
    lost = Counter(
        Attempt.objects.filter(outcome=AttemptOutcome.LOST).values_list("worker", flat=True)
    )
    assert set(lost) == set(killed)
    check_attempts()
    check_effects(effects)

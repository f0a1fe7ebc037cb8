"""Urgent work overtakes thousands that wait, on any broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from batches.models import Task
from batches.states import TaskState
from batches.submission import Item
from tests.processes.fleet import Fleet, done, submit, until

pytestmark = [pytest.mark.usefixtures("standing"), pytest.mark.long]

LOW, URGENT, WINDOW = 5000, 50, 8


@pytest.mark.backends("redis", "rabbitmq")
def test_at_most_a_window_of_low_tasks_starts_before_the_urgent_ones(
    standing: Fleet, tmp_path: Path
) -> None:
    gate = {"gate": str(tmp_path / "gate")}
    busy = submit("linger", gate, gate, priority=10)
    until(
        lambda: Task.objects.filter(batch=busy, state=TaskState.RUNNING).count() == 2,
        what="both slots are taken",
    )
    low = submit("noop", *(Item({}) for _ in range(LOW)), queue="low_priority")
    until(
        lambda: Task.objects.filter(batch=low, dispatched_at__isnull=False).count() == WINDOW,
        what="a window of the low ones is out",
    )
    urgent = submit("noop", *(Item({}) for _ in range(URGENT)), queue="high_priority")
    (tmp_path / "gate").touch()
    done(urgent)
    last = Task.objects.filter(batch=urgent).order_by("-started_at").values("started_at")[:1]
    before = Task.objects.filter(batch=low, started_at__lt=last)
    assert before.count() <= WINDOW

"""Worker processes that are stopped, killed, and cut off, each alone."""

import contextlib
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connection

from batches.models import Worker
from batches.states import TaskState, WorkerState
from tests.processes.fleet import (
    Fleet,
    done,
    gone,
    outcomes,
    pids,
    running,
    submit,
    task_of,
    until,
)


def test_a_worker_takes_from_its_queues_alone_and_ends_with_what_runs(
    fleet: Fleet, tmp_path: Path
) -> None:
    worker = fleet.start("--queues", "validation,low_priority", slots=1)
    left = submit("noop", {}, priority=10)
    for queue in ("low_priority", "validation"):
        done(submit("noop", {}, queue=queue))
    assert task_of(left).attempt == 0
    until(lambda: worker.row and worker.row.sandbox, what="it says what holds commands")
    until(lambda: worker.row and worker.row.claimed_at, what="it says that it claimed something")

    payload = {"gate": str(tmp_path / "gate")}
    batch = submit("linger", payload, payload, payload, queue="validation")
    until(lambda: running(worker), what="a task runs")
    worker.signal(signal.SIGTERM)
    until(
        lambda: worker.row is not None and worker.row.state == WorkerState.DRAINING,
        what="it says that it drains",
    )
    assert worker.process.poll() is None
    (tmp_path / "gate").touch()
    assert worker.ends() == 0
    assert list(batch.tasks.values_list("state", "attempt", "failures")) == [
        ("succeeded", 1, 0),
        ("queued", 0, 0),
        ("queued", 0, 0),
    ]
    assert Worker.objects.get(pid=worker.pid).state == WorkerState.STOPPED


def test_the_slots_of_a_killed_worker_die_with_it(fleet: Fleet, tmp_path: Path) -> None:
    # The lease would let them live for longer than this test waits.
    worker = fleet.start(slots=2, LEASE_SECONDS=600)
    submit("linger", {"gate": str(tmp_path / "never"), "pids": str(tmp_path / "pids")})
    processes = pids(tmp_path / "pids")
    slots = worker.slots()
    worker.kill()
    for pid in {*processes, *slots}:
        until(lambda pid=pid: gone(pid), what=f"process {pid} died with its worker")


@pytest.mark.backends("database")
def test_an_unknown_queue_is_named(fleet: Fleet) -> None:
    worker = fleet.start("--queues", "validatoin", up=False)
    assert worker.ends() == 1
    assert "validatoin" in worker.log


@contextmanager
def no_database() -> Iterator[None]:
    """PostgreSQL: every connection but ours is cut, again and again. SQLite: a writer that stays
    longer than others wait."""
    if connection.vendor == "postgresql":
        for _ in range(5):
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            time.sleep(0.1)
        yield
        return
    with contextlib.closing(sqlite3.connect(connection.settings_dict["NAME"])) as writer:
        writer.isolation_level = None
        writer.execute("BEGIN IMMEDIATE")
        yield
        writer.execute("ROLLBACK")


def test_a_database_that_goes_away_for_a_while_loses_nothing(fleet: Fleet, tmp_path: Path) -> None:
    worker = fleet.start(slots=2, LEASE_SECONDS=3, SQLITE_BUSY_TIMEOUT=1)
    effects = tmp_path / "effects"
    batch = submit("append", *({"file": str(effects), "seconds": 0.02} for _ in range(100)))
    until(lambda: batch.tasks.filter(state=TaskState.SUCCEEDED).exists(), what="some are done")
    with no_database():
        until(lambda: "the database failed" in worker.log, what="it noticed")
    batch = done(batch)
    assert batch.summary == {"succeeded": 100, "failed": 0, "cancelled": 0, "failures": {}}
    lines = effects.read_text().splitlines()
    for task in batch.tasks.all():
        assert outcomes(task)[-1] == "succeeded"
        assert set(outcomes(task)[:-1]) <= {"lost"}
        assert f"{task.pk} {task.attempt}" in lines
    assert worker.process.poll() is None

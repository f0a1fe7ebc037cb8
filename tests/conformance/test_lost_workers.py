"""Workers that hand back, are killed or frozen: the standing worker does what they did not.

It is kept busy for as long as the others are to have the work.
"""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection

from batches import operations
from batches.states import TaskState, WorkerState
from tests.processes.fleet import (
    Fleet,
    WorkerProcess,
    done,
    gone,
    outcomes,
    pids,
    running,
    submit,
    task_of,
    until,
)

pytestmark = pytest.mark.long


@contextmanager
def occupied(standing: Fleet, gate: Path) -> Iterator[None]:
    """Both slots of the standing worker are taken; the file ``gate`` frees them at the end."""
    [worker] = [one for one in standing.workers if one.process.poll() is None]
    payload = {"gate": str(gate)}
    busy = submit("linger", payload, payload, priority=10)
    until(lambda: running(worker) == 2, what="both slots are taken")
    yield
    gate.touch()
    done(busy)


@pytest.fixture
def standing(standing: Fleet) -> Iterator[Fleet]:
    """Whoever else a test started is gone at its end, with its row."""
    yield standing
    for worker in standing.workers[1:]:
        if worker.process.poll() is None:
            worker.thaw()
            worker.kill()
        if (row := worker.row) is not None:
            row.delete()
    del standing.workers[1:]


def freeze(worker: WorkerProcess) -> None:
    """SIGSTOP, but not while it writes: on SQLite nobody else could write until SIGCONT."""

    def stopped_between_writes() -> bool:
        worker.freeze()
        if connection.vendor != "sqlite":
            return True
        file = connection.settings_dict["NAME"]
        with contextlib.closing(sqlite3.connect(file, timeout=0.1)) as writer:
            try:
                writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                worker.thaw()
                return False
            writer.execute("ROLLBACK")
            return True

    until(stopped_between_writes, what="it is stopped between writes")


def test_a_second_sigterm_hands_back_at_once_at_no_cost(standing: Fleet, tmp_path: Path) -> None:
    with occupied(standing, tmp_path / "busy"):
        worker = standing.start(slots=1)
        payload = {"gate": str(tmp_path / "gate"), "pids": str(tmp_path / "pids")}
        batch = submit("linger", payload, max_attempts=1)
        processes = pids(tmp_path / "pids")
        worker.signal(signal.SIGTERM)
        until(
            lambda: worker.row is not None and worker.row.state == WorkerState.DRAINING,
            what="it heard the first one",
        )
        worker.hurry()
        assert worker.ends() == 0
        for pid in processes:
            until(lambda pid=pid: gone(pid), what=f"process {pid} is gone")
        task = task_of(batch)
        assert (task.state, task.failures, outcomes(task)) == ("queued", 0, ["released"])
        [released] = task.attempts.all()
        assert released.error == "Handed back: its process was stopped."
        (tmp_path / "gate").touch()
    assert outcomes(task_of(done(batch))) == ["released", "succeeded"]


def test_the_work_of_a_killed_worker_is_done_by_another(standing: Fleet, tmp_path: Path) -> None:
    with occupied(standing, tmp_path / "busy"):
        doomed = standing.start(slots=1, LEASE_SECONDS=2)
        batch = submit("linger", {"gate": str(tmp_path / "never"), "until": 2})
        until(lambda: running(doomed), what="the task runs")
        name = doomed.name
        doomed.kill()
    task = task_of(done(batch))
    assert (task.state, outcomes(task)) == ("succeeded", ["lost", "succeeded"])
    workers = [name, standing.workers[0].name]
    assert list(task.attempts.values_list("worker", flat=True)) == workers


def test_what_a_killed_worker_left_in_a_workspace_is_cleared_up(
    standing: Fleet, tmp_path: Path
) -> None:
    """Although nothing more is to be done there."""
    User.objects.create_superuser("tester")
    folder = tmp_path / "space"
    folder.mkdir()
    operations.add_workspace("space", folder)
    with occupied(standing, tmp_path / "busy"):
        doomed = standing.start(slots=1, LEASE_SECONDS=2)
        options = {"workspace": "space", "max_attempts": 1}
        batch = submit("messy", {"gate": str(tmp_path / "never")}, **options)
        until(lambda: list(folder.glob("left-*")), what="it has left something")
        doomed.kill()
    until(lambda: not list(folder.glob("left-*")), what="it was cleared up")
    assert task_of(done(batch)).failure == "lost"


def test_the_late_answer_of_a_frozen_worker_is_void(standing: Fleet, tmp_path: Path) -> None:
    """One task ends while its worker is stopped, the other's slot outlives its lease; the late
    answers come while another worker runs both again."""
    rescuer = standing.workers[0]
    with occupied(standing, tmp_path / "busy"):
        frozen = standing.start(slots=2, LEASE_SECONDS=2)
        late, stuck = ({"gate": str(tmp_path / name)} for name in ("late", "stuck"))
        batch = submit(
            "linger",
            late | {"pids": str(tmp_path / "late-pids"), "passed": str(tmp_path / "passed")},
            stuck | {"pids": str(tmp_path / "stuck-pids")},
        )
        pids(tmp_path / "late-pids")
        doomed = pids(tmp_path / "stuck-pids")
        name = frozen.name
        freeze(frozen)
        (tmp_path / "late-1").touch()
        until((tmp_path / "passed").exists, what="the first task has answered")
        for pid in doomed:
            until(lambda pid=pid: gone(pid), what="the other one's processes ended with the lease")
    again = batch.tasks.filter(state=TaskState.RUNNING, attempt=2, worker=rescuer.name)
    until(lambda: again.count() == 2, what="another worker runs both")
    frozen.thaw()
    until(lambda: frozen.log.count("is void") == 2, what="both answers were found void")
    assert again.count() == 2
    # The one that was frozen works on.
    more = done(submit("noop", {}))
    assert (task_of(more).worker, outcomes(task_of(more))) == (name, ["succeeded"])
    for gate in ("late-2", "stuck-2"):
        (tmp_path / gate).touch()
    for task in done(batch).tasks.all():
        assert outcomes(task) == ["lost", "succeeded"]
        assert task.result == {"attempt": 2}
        assert list(task.attempts.values_list("worker", flat=True)) == [name, rescuer.name]


def test_two_workers_share_the_work_and_one_that_is_idle_ends_at_once(
    standing: Fleet, tmp_path: Path
) -> None:
    other = standing.start(slots=2)
    batch = submit("linger", *({"gate": str(tmp_path / "gate")} for _ in range(6)))
    for worker in standing.workers:
        until(lambda worker=worker: running(worker) == 2, what="both slots of each are busy")
    (tmp_path / "gate").touch()
    assert all(outcomes(task) == ["succeeded"] for task in done(batch).tasks.all())
    slots, name = other.slots(), other.name
    assert len(slots) == 2
    other.signal(signal.SIGTERM)
    assert other.ends() == 0
    assert all(gone(pid) for pid in slots)
    assert not list((standing.data_dir / "work").glob(f"{name}*"))

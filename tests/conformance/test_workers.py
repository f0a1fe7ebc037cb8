"""Worker processes that are stopped, killed, frozen and cut off: nothing is lost or done twice."""

import contextlib
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection

from batches import operations
from batches.models import Task, Worker
from batches.states import TaskState, WorkerState
from tests.processes.fleet import (
    Fleet,
    WorkerProcess,
    done,
    gone,
    outcomes,
    pids,
    submit,
    task_of,
    until,
)


def running(worker: WorkerProcess) -> bool:
    return Task.objects.filter(state=TaskState.RUNNING, worker=worker.name).exists()


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


def test_sigterm_finishes_what_runs_and_leaves_the_rest(fleet: Fleet, tmp_path: Path) -> None:
    worker = fleet.start(slots=1)
    batch = submit("linger", *({"gate": str(tmp_path / "gate")} for _ in range(3)))
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


def test_a_second_sigterm_hands_back_at_once_at_no_cost(fleet: Fleet, tmp_path: Path) -> None:
    worker = fleet.start(slots=1)
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
    fleet.start(slots=1, up=False)
    assert outcomes(task_of(done(batch))) == ["released", "succeeded"]


def test_the_slots_of_a_killed_worker_die_with_it(fleet: Fleet, tmp_path: Path) -> None:
    # The lease would let them live for longer than this test waits.
    worker = fleet.start(slots=2, LEASE_SECONDS=600)
    submit("linger", {"gate": str(tmp_path / "never"), "pids": str(tmp_path / "pids")})
    processes = pids(tmp_path / "pids")
    slots = worker.slots()
    worker.kill()
    for pid in {*processes, *slots}:
        until(lambda pid=pid: gone(pid), what=f"process {pid} died with its worker")


@pytest.mark.long
def test_the_work_of_a_killed_worker_is_done_by_another(fleet: Fleet, tmp_path: Path) -> None:
    first = fleet.start(slots=1, LEASE_SECONDS=2)
    batch = submit("linger", {"gate": str(tmp_path / "never"), "until": 2})
    until(lambda: running(first), what="the task runs")
    name = first.name
    first.kill()
    second = fleet.start(slots=1, LEASE_SECONDS=2)
    task = task_of(done(batch))
    assert (task.state, outcomes(task)) == ("succeeded", ["lost", "succeeded"])
    assert list(task.attempts.values_list("worker", flat=True)) == [name, second.name]
    scratch = {path.name for path in (fleet.data_dir / "work").iterdir()}
    assert all(name.startswith(second.name) for name in scratch)


@pytest.mark.long
def test_what_a_killed_worker_left_in_a_workspace_is_cleared_up(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Although nothing more is to be done there."""
    User.objects.create_superuser("tester")
    folder = tmp_path / "space"
    folder.mkdir()
    operations.add_workspace("space", folder)
    first = fleet.start(slots=1, LEASE_SECONDS=2)
    options = {"workspace": "space", "max_attempts": 1}
    batch = submit("messy", {"gate": str(tmp_path / "never")}, **options)
    until(lambda: list(folder.glob("left-*")), what="it has left something")
    first.kill()
    fleet.start(slots=1, LEASE_SECONDS=2, up=False)
    until(lambda: not list(folder.glob("left-*")), what="it was cleared up")
    assert task_of(done(batch)).failure == "lost"


@pytest.mark.long
def test_the_late_answer_of_a_frozen_worker_is_void(fleet: Fleet, tmp_path: Path) -> None:
    """One task ends while its worker is stopped, the other's slot outlives its lease; the late
    answers come while another worker runs both again."""
    frozen = fleet.start(slots=2, LEASE_SECONDS=2)
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
    rescuer = fleet.start(slots=2, LEASE_SECONDS=2)
    again = batch.tasks.filter(state=TaskState.RUNNING, attempt=2, worker=rescuer.name)
    until(lambda: again.count() == 2, what="another worker runs both")
    frozen.thaw()
    until(lambda: frozen.log.count("is void") == 2, what="both answers were found void")
    assert again.count() == 2
    for gate in ("late-2", "stuck-2"):
        (tmp_path / gate).touch()
    for task in done(batch).tasks.all():
        assert outcomes(task) == ["lost", "succeeded"]
        assert task.result == {"attempt": 2}
        assert list(task.attempts.values_list("worker", flat=True)) == [name, rescuer.name]
    # The one that was frozen works on.
    rescuer.kill()
    assert outcomes(task_of(done(submit("noop", {})))) == ["succeeded"]


def test_two_workers_share_the_work_and_end_at_once_when_idle(fleet: Fleet, tmp_path: Path) -> None:
    workers = [fleet.start(slots=2, up=False) for _ in range(2)]
    batch = submit("linger", *({"gate": str(tmp_path / "gate")} for _ in range(6)))
    for worker in workers:
        worker.wait_until_up()
        mine = batch.tasks.filter(state=TaskState.RUNNING, worker=worker.name)
        until(lambda mine=mine: mine.count() == 2, what="both slots of each worker are busy")
    (tmp_path / "gate").touch()
    assert all(outcomes(task) == ["succeeded"] for task in done(batch).tasks.all())
    slots = [pid for worker in workers for pid in worker.slots()]
    assert len(slots) == 4
    for worker in workers:
        worker.signal(signal.SIGTERM)
    assert [worker.ends() for worker in workers] == [0, 0]
    assert all(gone(pid) for pid in slots)
    assert not list((fleet.data_dir / "work").glob("*"))


def test_a_worker_takes_from_its_queues_alone_and_says_what_holds_commands(fleet: Fleet) -> None:
    worker = fleet.start("--queues", "validation,low_priority")
    left = submit("noop", {}, priority=10)
    taken = [submit("noop", {}, queue=queue) for queue in ("low_priority", "validation")]
    for batch in taken:
        done(batch)
    assert task_of(left).attempt == 0
    until(lambda: worker.row and worker.row.sandbox, what="it says what holds commands")


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

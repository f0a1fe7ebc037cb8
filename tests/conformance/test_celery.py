"""What only Celery has: its records and its verbs, and a broker that can be away."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery.result import AsyncResult
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone
from django_celery_results.models import TaskResult

from batches import operations
from batches.mirror import TaskFailed
from batches.models import Queue, Task, Worker
from batches.states import TaskState
from tests.conformance.endings import (
    doubled,
    ended_in_a_slot,
    lost_with_their_worker,
    retried_by_hand,
    revoked_in_flower,
)
from tests.flower import Flower
from tests.patience import PATIENCE
from tests.processes.fleet import (
    ROOT,
    Fleet,
    database_url,
    done,
    outcomes,
    pids,
    submit,
    task_of,
    until,
)

pytestmark = [pytest.mark.backends("redis", "rabbitmq"), pytest.mark.long]

WORDS = {"succeeded": "SUCCESS", "failed": "FAILURE", "cancelled": "REVOKED"}


def application() -> Any:
    from config.celery import app

    return app


def record(task: Task) -> TaskResult:
    """Celery's record of a finished task, once it says what the row says."""
    task.refresh_from_db()
    wanted = TaskResult.objects.filter(task_id=str(task.pk), status=WORDS[task.state])
    found: TaskResult = until(wanted.first, what=f"the record says {task.state}")
    return found


def cut_connections() -> None:
    """As a database does that is started again: all sessions but ours end."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture
def flower(standing: Fleet, tmp_path: Path) -> Iterator[Flower]:
    """It builds its state from events: it is there before the tasks."""
    watching = Flower(tmp_path, standing.broker_url)
    try:
        watching.wait_until_it_hears_a_worker()
        yield watching
    finally:
        watching.kill()


def test_record_row_api_and_flower_agree_whatever_became_of_a_task(
    standing: Fleet, flower: Flower, tmp_path: Path, client: Client
) -> None:
    ended = lost_with_their_worker(standing, flower, tmp_path)
    ended |= ended_in_a_slot(tmp_path)
    ended["revoked in Flower"] = revoked_in_flower(flower, tmp_path)
    ended["doubled message"] = doubled(flower, tmp_path)
    ended["retried by hand"] = retried_by_hand(flower, tmp_path)
    unsent = submit("noop", {}, run_at=timezone.now() + timedelta(hours=1))
    operations.cancel_task(task_of(unsent))
    ended["cancel while it waits"] = done(unsent)

    client.force_login(User.objects.create_superuser("boss"))
    for what, batch in ended.items():
        task = task_of(done(batch))
        kept = record(task)
        told = client.get(f"/batch/celery/task/{task.pk}").json()
        assert kept.status == told["status"] == WORDS[task.state], what
        # No message of it was ever sent, and Flower knows nothing but messages.
        shown = None if batch == unsent else told["status"]
        until(lambda: flower.state(task.pk) == shown, what=f"Flower shows {shown}: {what}")  # noqa: B023
        assert kept.task_name == told["meta"]["name"] == f"process_{task.kind}", what
        assert kept.task_args == f"\"('{task.pk}',)\"", what
        result = AsyncResult(str(task.pk), app=application())
        assert result.status == told["status"], what
        if task.state == TaskState.SUCCEEDED:
            assert result.result == task.result == told["result"], what
        else:
            assert isinstance(result.result, TaskFailed), what
            assert (kept.traceback or "") == task.error == told["error"], what
    assert outcomes(task_of(ended["lost worker"])) == ["lost"]
    assert outcomes(task_of(ended["lost worker, done by another"])) == ["lost", "succeeded"]


def test_a_revoked_task_is_cancelled_and_may_be_retried(standing: Fleet, tmp_path: Path) -> None:
    gate = {"gate": str(tmp_path / "gate")}
    busy = submit("linger", gate, gate, priority=10)
    until(
        lambda: Task.objects.filter(batch=busy, state=TaskState.RUNNING).count() == 2,
        what="both slots are taken",
    )
    batch = submit("noop", {})
    task = task_of(batch)
    until(lambda: task_of(batch).dispatched_at, what="a worker was told of it")
    application().control.revoke(str(task.pk))
    (tmp_path / "gate").touch()
    done(busy)
    assert task_of(done(batch)).state == TaskState.CANCELLED
    operations.retry_task(task)
    assert done(batch).summary["succeeded"] == 1
    until(lambda: record(task_of(batch)).status == "SUCCESS", what="the record follows")


def test_a_running_task_that_is_revoked_is_cancelled_and_may_be_retried(
    standing: Fleet, tmp_path: Path
) -> None:
    """While another one of its batch runs on."""
    for terminate in (False, True):
        way = tmp_path / f"terminate-{terminate}"
        other = {"gate": f"{way}.other"}
        batch = submit("linger", {"gate": str(way), "pids": f"{way}.pids"}, other)
        pids(Path(f"{way}.pids"))
        application().control.revoke(str(task_of(batch).pk), terminate=terminate)
        until(lambda b=batch: task_of(b).state == TaskState.CANCELLED, what="it is cancelled")
        assert record(task_of(batch)).status == "REVOKED"
        assert outcomes(task_of(batch))[0] in {"released", "cancelled"}
        assert "shutdown" not in task_of(batch).error, "nothing was shut down"
        Path(other["gate"]).touch()
        assert done(batch).summary["cancelled"] == 1
        way.touch()
        operations.retry_task(task_of(batch))
        assert done(batch).summary["succeeded"] == 2


def test_a_task_that_is_cancelled_while_it_backs_off_is_recorded_so_at_once(
    standing: Fleet,
) -> None:
    later = {"how": "again", "after": 600}
    batch = submit("misbehave", later, later, max_attempts=2)
    until(
        lambda: batch.tasks.filter(state=TaskState.QUEUED, attempt=1).count() == 2,
        what="both wait for their second attempt",
    )
    cancelled, other = task_of(batch, 0), task_of(batch, 1)
    operations.cancel_task(cancelled)
    assert record(cancelled).status == "REVOKED"
    assert TaskResult.objects.get(task_id=str(other.pk)).status == "RETRY"
    operations.cancel_task(other)
    assert done(batch).summary["cancelled"] == 2


def test_a_task_that_is_not_sent_yet_can_be_revoked(standing: Fleet) -> None:
    batch = submit("noop", {}, run_at=timezone.now() + timedelta(hours=1))
    application().control.revoke(str(task_of(batch).pk))
    assert done(batch).summary["cancelled"] == 1


def test_a_retry_outlives_the_message_that_was_revoked_before_it(
    standing: Fleet, tmp_path: Path
) -> None:
    """It still waits in the broker, and is dropped by a worker when its turn comes."""
    gate = {"gate": str(tmp_path / "gate")}
    busy = submit("linger", gate, gate, priority=10)
    until(
        lambda: Task.objects.filter(batch=busy, state=TaskState.RUNNING).count() == 2,
        what="both slots are taken",
    )
    batch = submit("noop", {})
    until(lambda: task_of(batch).dispatched_at, what="a message of it is out")
    application().control.revoke(str(task_of(batch).pk))
    assert done(batch).summary["cancelled"] == 1
    operations.retry_task(task_of(batch))
    until(lambda: task_of(batch).dispatched_at, what="another one is out")
    (tmp_path / "gate").touch()
    done(busy)
    assert done(batch).summary["succeeded"] == 1


def test_what_control_changes_of_a_worker_is_known_to_the_dispatchers(
    standing: Fleet, tmp_path: Path
) -> None:
    control = application().control

    def row() -> Worker:
        return Worker.objects.get(pid=standing.workers[0].pid)

    assert (row().slots, "low_priority" in row().queues) == (2, True)
    control.pool_grow(1)
    control.cancel_consumer("low_priority")
    until(lambda: row().slots == 3 and "low_priority" not in row().queues, what="it says both")
    unread = submit("noop", {}, queue="low_priority")
    grown = submit("linger", *({"gate": str(tmp_path / "gate")} for _ in range(3)))
    until(
        lambda: Task.objects.filter(batch=grown, state=TaskState.RUNNING).count() == 3,
        what="three run at once",
    )
    (tmp_path / "gate").touch()
    done(grown)
    control.pool_shrink(1)
    control.add_consumer("low_priority")
    done(unread)
    until(lambda: row().slots == 2 and "low_priority" in row().queues, what="it says both")


def test_a_worker_at_rest_survives_a_restart_of_its_database(standing: Fleet) -> None:
    app, worker = application(), standing.workers[0]
    first = done(submit("noop", *({} for _ in range(8))))
    app.control.revoke(str(uuid4()), reply=True)  # its main process asks the database as well
    before = len(worker.log)
    cut_connections()
    asked = [app.send_task("get_group_status", [str(first.pk)], queue="default") for _ in range(4)]
    assert all(one.get(timeout=PATIENCE)["ready"] for one in asked)
    app.control.revoke(str(uuid4()), reply=True)
    app.control.pool_grow(1, reply=True)
    until(lambda: Worker.objects.get(pid=worker.pid).slots == 3, what="it has one process more")
    batch = done(submit("noop", *({} for _ in range(8))))
    assert set(batch.tasks.values_list("attempt", flat=True)) == {1}
    app.control.pool_shrink(1, reply=True)
    until(lambda: Worker.objects.get(pid=worker.pid).slots == 2, what="it has two again")
    said = worker.log[before:]
    assert "Failed to mark task" not in said
    assert "Traceback" not in said


@pytest.mark.backends("rabbitmq")
def test_another_pool_is_refused(standing: Fleet) -> None:
    worker = standing.start("--pool=threads", up=False)
    assert worker.ends() != 0
    assert "--pool=prefork" in worker.log


@pytest.mark.backends("redis")
def test_settings_that_do_not_hold_are_refused(standing: Fleet) -> None:
    worker = standing.start(up=False, CELERY_QUORUM_QUEUES="true")
    assert worker.ends() != 0
    assert "CELERY_QUORUM_QUEUES is true" in worker.log


def test_celerys_clients_can_ask_by_tasks(standing: Fleet) -> None:
    app = application()
    batch = done(submit("noop", {}, {}))
    asked = {
        "get_task_status": str(task_of(batch).pk),
        "get_group_status": str(batch.pk),
        "batch_noop": str(batch.pk),
    }
    told = {
        name: app.send_task(name, [argument], queue="default").get(timeout=PATIENCE)
        for name, argument in asked.items()
    }
    assert told["get_task_status"]["status"] == "SUCCESS"
    assert told["get_group_status"]["ready"] is True
    assert told["batch_noop"] == {"group_id": str(batch.pk), "total": 2}
    assert app.send_task("cleanup_old_results", queue="low_priority").get(timeout=PATIENCE) == {
        "batches": 0
    }
    assert TaskResult.objects.get(task_id=str(task_of(batch).pk)).status == "SUCCESS"


def commands_of_the_guide() -> list[list[str]]:
    """The lines of the blocks of shell commands about looking at workers."""
    guide = (ROOT / "deploy/README.md").read_text(encoding="utf-8")
    section = guide.partition("### Looking at it\n")[2].partition("\n### ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


@pytest.mark.backends("redis")
def test_the_commands_of_the_guide_answer(standing: Fleet, tmp_path: Path) -> None:
    batch = submit("linger", {"gate": str(tmp_path / "gate"), "pids": str(tmp_path / "pids")})
    pids(tmp_path / "pids")
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database_url(),
        "DATA_DIR": str(standing.data_dir),
        "CELERY_BROKER_URL": standing.broker_url,
    }
    programs: dict[str, list[str]] = {".venv/bin/celery": ["-m", "celery"], ".venv/bin/python": []}
    said = {}
    for program, *words in commands_of_the_guide():
        told = subprocess.run(
            [sys.executable, *programs[program], *words],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        said[words[-1]] = told.stdout
        # What holds commands on this machine is for doctor to say, and not what is shown here.
        assert told.returncode == 0 or words[-1] == "doctor", told.stderr
    (tmp_path / "gate").touch()
    done(batch)

    assert set(said) == {"active", "stats", "registered", "active_queues", "doctor"}
    assert str(task_of(batch).pk) in said["active"]
    assert '"total"' in said["stats"]
    assert "process_noop" in said["registered"]
    for queue in Queue.objects.values_list("name", flat=True):
        assert f"'name': '{queue}'" in said["active_queues"]
    assert re.search(r"ok +broker: It answers", said["doctor"])
    assert re.search(r"ok +workers: 1 running", said["doctor"])

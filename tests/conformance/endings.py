"""Batches of which each has ended in a way of its own, on workers of Celery that Flower watches."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from django_celery_results.models import TaskResult

from batches import operations
from batches.backends.celery import publish
from batches.messages import Message
from batches.models import Batch, Task, Worker
from batches.states import TaskState
from tests.flower import Flower
from tests.processes.fleet import Fleet, done, outcomes, pids, submit, task_of, until


def ended_in_a_slot(tmp_path: Path) -> dict[str, Batch]:
    never = {"gate": str(tmp_path / "never")}
    ended = {
        "success": submit("misbehave", {"how": "flaky", "until": 1}),
        "rejection": submit("misbehave", {"how": "reject"}),
        "retry": submit("misbehave", {"how": "flaky", "until": 2}),
        "limit": submit("misbehave", {"how": "limit"}),
        "timeout": submit("linger", never, timeout=1, max_attempts=1),
        "error": submit("misbehave", {"how": "raise"}, max_attempts=1),
    }
    for batch in ended.values():
        done(batch)
    running = submit("linger", never | {"pids": str(tmp_path / "pids")})
    pids(tmp_path / "pids")
    operations.cancel_task(task_of(running))
    ended["cancel"] = done(running)
    lost = submit("linger", never | {"pids": str(tmp_path / "lost")}, max_attempts=1)
    os.kill(pids(tmp_path / "lost")[0], signal.SIGKILL)
    ended["lost slot"] = done(lost)
    return ended


def revoked_in_flower(flower: Flower, tmp_path: Path) -> Batch:
    batch = submit("linger", {"gate": str(tmp_path / "never"), "pids": str(tmp_path / "revoked")})
    pids(tmp_path / "revoked")
    flower.revoke(task_of(batch).pk, terminate=True)
    return done(batch)


def lost_with_their_worker(standing: Fleet, flower: Flower, tmp_path: Path) -> dict[str, Batch]:
    """They end once their leases ran out. And one that is cancelled while its message waits in the
    broker: all slots are taken."""
    gate, never = {"gate": str(tmp_path / "busy")}, {"gate": str(tmp_path / "never")}
    busy = submit("linger", gate, gate)
    until(
        lambda: Task.objects.filter(batch=busy, state=TaskState.RUNNING).count() == 2,
        what="both slots are taken",
    )
    doomed = standing.start(slots=2, LEASE_SECONDS=2)
    once = submit("linger", never | {"pids": str(tmp_path / "once")}, max_attempts=1)
    again = submit("linger", never | {"pids": str(tmp_path / "again"), "until": 2})
    pids(tmp_path / "once")
    pids(tmp_path / "again")
    waiting = submit("noop", {})
    until(lambda: flower.task(task_of(waiting).pk), what="a message of it is out")
    operations.cancel_task(task_of(waiting))
    doomed.kill()
    Worker.objects.filter(pid=doomed.pid).delete()
    # As of a worker that dies within the first moments of a task.
    TaskResult.objects.filter(task_id=str(task_of(once).pk)).delete()
    (tmp_path / "busy").touch()
    done(busy)
    return {
        "cancel in the broker": waiting,
        "lost worker": once,
        "lost worker, done by another": again,
    }


def retried_by_hand(flower: Flower, tmp_path: Path) -> Batch:
    """While it runs again, nothing shows the end of its first run."""
    payload = {"gate": str(tmp_path / "open"), "pids": str(tmp_path / "retried")}
    batch = submit("linger", payload, max_attempts=1)
    os.kill(pids(tmp_path / "retried")[0], signal.SIGKILL)
    done(batch)
    task = task_of(batch)
    until(lambda: flower.state(task.pk) == "FAILURE", what="Flower shows that it failed")
    operations.retry_task(task)
    pids(tmp_path / "retried", attempt=2)
    until(lambda: flower.state(task.pk) == "STARTED", what="Flower shows that it runs again")
    (tmp_path / "open").touch()
    return done(batch)


def doubled(flower: Flower, tmp_path: Path) -> Batch:
    """Its message comes again while it runs, and once more when it is finished."""
    batch = submit("linger", {"gate": str(tmp_path / "gate"), "pids": str(tmp_path / "doubled")})
    pids(tmp_path / "doubled")
    task = task_of(batch)
    message = Message(task.pk, task.kind, batch.queue_id, task.priority, task.pk)

    def received() -> object:
        return (flower.task(task.pk) or {}).get("received")

    for finish in (False, True):
        if finish:
            (tmp_path / "gate").touch()
            done(batch)
        before = until(received, what="Flower heard of it")
        publish([message])
        until(lambda before=before: received() != before, what="its message came again")
    assert outcomes(task_of(batch)) == ["succeeded"]
    return batch

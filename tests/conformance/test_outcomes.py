"""What becomes of a task in a real worker: one worker stands for all of these on a backend."""

import os
import signal
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from batches import operations
from batches.models import Artefact, Resource, Task
from batches.states import TaskState
from tests.processes.fleet import Fleet, done, gone, outcomes, pids, submit, task_of, until

pytestmark = [pytest.mark.usefixtures("standing"), pytest.mark.long]


def misbehaved(how: str, **more: Any) -> Task:
    """A task that ended as ``how`` says, with one attempt allowed unless said otherwise."""
    attempts = more.pop("max_attempts", 1)
    return task_of(done(submit("misbehave", {"how": how, **more}, max_attempts=attempts)))


def test_a_batch_runs_to_its_end() -> None:
    batch = done(submit("noop", *({"n": n} for n in range(300))))
    assert batch.summary == {"succeeded": 300, "failed": 0, "cancelled": 0, "failures": {}}
    assert batch.started_at < batch.finished_at
    tasks = Task.objects.filter(batch=batch)
    assert set(tasks.values_list("state", "attempt", "failures")) == {("succeeded", 1, 0)}
    assert all(outcomes(task) == ["succeeded"] for task in tasks)


def test_a_no_is_kept_with_its_reason_and_never_retried() -> None:
    task = misbehaved("reject", max_attempts=3)
    assert (task.state, task.failure, task.error) == ("failed", "rejected", "no")
    assert task.result == {"why": "because"}
    assert outcomes(task) == ["rejected"]


def test_a_limit_is_not_retried() -> None:
    task = misbehaved("limit", max_attempts=3)
    assert (task.failure, task.error, outcomes(task)) == ("limit", "lines: too many", ["limit"])


def test_an_exception_fails_with_its_traceback() -> None:
    task = misbehaved("raise")
    assert task.failure == "error"
    assert task.error.startswith("Traceback")
    assert task.error.endswith("RuntimeError: broken on purpose")


def test_what_failed_for_a_while_is_tried_again() -> None:
    task = misbehaved("flaky", until=3, max_attempts=3)
    assert task.state == TaskState.SUCCEEDED
    assert outcomes(task) == ["error", "error", "succeeded"]
    assert task.failures == 2


def test_an_answer_that_is_not_json_is_an_error() -> None:
    task = misbehaved("not json")
    assert task.failure == "error"
    assert "ValueError" in task.error
    assert task.result is None


def test_text_that_a_database_refuses_is_replaced() -> None:
    task = misbehaved("nasty text")
    assert task.state == TaskState.SUCCEEDED
    assert task.result == {"x": "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"}


def test_a_huge_answer_becomes_a_file(standing: Fleet) -> None:
    task = misbehaved("huge")
    assert task.state == TaskState.SUCCEEDED
    artefact = Artefact.objects.get(task=task)
    assert task.result == {"artefact": "result.json", "bytes": artefact.size}
    stored = standing.data_dir / "artefacts" / artefact.file.name
    assert stored.stat().st_size == artefact.size > 2_000_000


def test_a_file_is_kept_with_its_attempt(standing: Fleet) -> None:
    artefact = Artefact.objects.get(task=misbehaved("artefact"))
    assert (artefact.name, artefact.attempt, artefact.media_type) == ("note.txt", 1, "text/plain")
    assert (standing.data_dir / "artefacts" / artefact.file.name).read_text() == "kept"


def test_a_link_is_never_followed_out_of_the_sandbox() -> None:
    task = misbehaved("link")
    assert task.state == TaskState.SUCCEEDED
    assert not Artefact.objects.filter(task=task).exists()


def test_log_lines_are_stored_with_their_attempt() -> None:
    task = task_of(done(submit("sleep", {"seconds": 0})))
    assert list(task.log.values_list("attempt", "event", "fields")) == [
        (1, "sleeping", {"seconds": 0})
    ]


def test_log_lines_are_there_while_the_task_runs(tmp_path: Path) -> None:
    batch = submit("linger", {"gate": str(tmp_path / "gate")})
    task = task_of(batch)
    until(lambda: task.log.filter(event="lingering").exists(), what="the line is stored")
    assert task_of(batch).state == TaskState.RUNNING
    (tmp_path / "gate").touch()
    done(batch)


def test_a_cancel_kills_the_work_within_two_seconds(tmp_path: Path) -> None:
    batch = submit("linger", {"gate": str(tmp_path / "never"), "pids": str(tmp_path / "pids")})
    processes = pids(tmp_path / "pids")
    operations.cancel_task(task_of(batch))
    asked_at = task_of(batch).cancel_requested_at
    batch = done(batch)
    task = task_of(batch)
    assert (task.state, outcomes(task)) == ("cancelled", ["cancelled"])
    assert task.finished_at - asked_at < timedelta(seconds=2)
    for pid in processes:
        until(lambda pid=pid: gone(pid), what=f"process {pid} is gone")
    assert batch.summary["cancelled"] == 1


def test_a_timeout_kills_the_work_and_tries_again(tmp_path: Path) -> None:
    payload = {"gate": str(tmp_path / "never"), "pids": str(tmp_path / "pids"), "until": 2}
    batch = done(submit("linger", payload, timeout=1))
    task = task_of(batch)
    assert (task.state, task.failures) == ("succeeded", 1)
    assert outcomes(task) == ["timeout", "succeeded"]
    for pid in pids(tmp_path / "pids"):
        until(lambda pid=pid: gone(pid), what=f"process {pid} is gone")


def test_a_slot_that_is_killed_loses_only_its_attempt(tmp_path: Path) -> None:
    payload = {"gate": str(tmp_path / "never"), "pids": str(tmp_path / "pids"), "until": 2}
    batch = submit("linger", payload)
    slot, child = pids(tmp_path / "pids")
    os.kill(slot, signal.SIGKILL)
    task = task_of(done(batch))
    assert outcomes(task) == ["lost", "succeeded"]
    assert "SIGKILL" in task.attempts.get(number=1).error
    until(lambda: gone(child), what="what the slot had started is gone")


def test_a_crash_after_an_announced_effect_is_not_replayed() -> None:
    task = misbehaved("effect, then die", max_attempts=5)
    assert (task.state, task.failure, outcomes(task)) == ("failed", "lost", ["lost"])


def test_what_must_not_be_replayed_is_not_tried_again_after_a_crash() -> None:
    task = misbehaved("die", replay_safe=False, max_attempts=5)
    assert (task.failure, outcomes(task)) == ("lost", ["lost"])


def test_a_slot_is_replaced_after_so_many_tasks() -> None:
    # More than 50 ms each: none waits in a slot behind another one.
    batch = done(submit("who", *({"seconds": 0.06} for _ in range(14))))
    runs = Counter(task.result["pid"] for task in batch.tasks.all())
    assert max(runs.values()) <= 3
    assert set(batch.tasks.values_list("attempt", flat=True)) == {1}


def test_new_work_is_picked_up_at_once() -> None:
    def usual_wait() -> float:
        waits = []
        for _ in range(10):
            batch = done(submit("noop", {}))
            waits.append((task_of(batch).started_at - batch.sealed_at).total_seconds())
        return sorted(waits)[6]

    # A worker that only looks once a second would have 7 of 10 below 0.25 s in one try of 280. A
    # machine that is busy for a while has five.
    assert any(usual_wait() < 0.25 for _ in range(5))


def test_a_resource_that_is_away_costs_nothing_and_is_probed(tmp_path: Path) -> None:
    resource = f"file:{tmp_path / 'there'}"
    payload = {"how": "need", "needs": resource}
    first = submit("misbehave", payload, max_attempts=1)
    until(lambda: task_of(first).waiting_for == resource, what="the task is parked")
    noted = Resource.objects.filter(pk=resource, away_since__isnull=False, reason="it is away")
    until(noted.exists, what="it is noted what is away, and why")
    second = submit("misbehave", payload, max_attempts=1)
    other = done(submit("misbehave", {"how": "reject"}))
    until(lambda: task_of(second).waiting_for == resource, what="the other one is parked too")
    assert (task_of(second).attempt, task_of(other).attempt) == (0, 1)
    (tmp_path / "there").touch()
    task = task_of(done(first))
    assert (outcomes(task), task.failures) == (["unavailable", "succeeded"], 0)
    assert outcomes(task_of(done(second))) == ["succeeded"]


def test_the_deadline_bounds_the_wait_for_a_resource(tmp_path: Path) -> None:
    deadline = timezone.now() + timedelta(seconds=2)
    payload = {"how": "need", "needs": f"file:{tmp_path / 'never'}"}
    batch = done(submit("misbehave", payload, deadline=deadline))
    task = task_of(batch)
    assert (task.state, task.failure, outcomes(task)) == ("failed", "timeout", ["unavailable"])
    assert task.finished_at >= deadline


@pytest.mark.backends("database")
def test_long_kinds_leave_one_slot_to_the_others(tmp_path: Path) -> None:
    long = submit("long", *({"gate": str(tmp_path / "gate")} for _ in range(3)), priority=10)
    running = Task.objects.filter(batch=long, state=TaskState.RUNNING)
    until(running.exists, what="a long task runs")
    done(submit("sleep", {"seconds": 0}, {"seconds": 0}))
    assert running.count() == 1
    (tmp_path / "gate").touch()
    assert done(long).summary["succeeded"] == 3

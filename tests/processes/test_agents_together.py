"""Thirty agents side by side on one repository, and their worker killed twice."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from batches import operations
from batches.models import Task
from batches.states import Failure, TaskState
from tests.model_protocol import Asked, Reply, call, say
from tests.model_server import ModelServer
from tests.processes.fleet import Fleet, done, ends, submit, until

pytestmark = [pytest.mark.long, pytest.mark.either]

TASKS = 30


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def line_of(number: int) -> int:
    """The line a task changes; every fifth wants the one of the task before it."""
    return number - 1 if number % 5 == 4 else number


def change(asked: Asked) -> Reply:
    """A model that knows what to do: one line of the file they all share, and a file of its own."""
    named = re.search(r"Number (\d+)", asked.task)
    assert named
    number = int(named[1])
    line = line_of(number)
    if asked.turn:
        return say("Done.")
    nobodys, mine = f"line {line} of nobody", f"line {line} of {number}"
    edit = {"path": "shared.txt", "old_text": nobodys, "new_text": mine}
    return call(
        ("edit_file", edit),
        ("write_file", {"path": f"own/{number}.txt", "content": f"{number}\n"}),
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q")
    between = "the same\n" * 5
    shared = "".join(f"line {number} of nobody\n{between}" for number in range(TASKS))
    (root / "shared.txt").write_text(shared)
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "state")
    return root


@pytest.fixture
def workspace(fleet: Fleet, repository: Path) -> str:
    User.objects.create_superuser("tester")
    row = operations.add_workspace("shared", repository)
    return row.name


def has(repository: Path, number: int) -> bool:
    """Does the workspace hold a task's change? All of it and once, or nothing of it."""
    own = repository / "own" / f"{number}.txt"
    shared = (repository / "shared.txt").read_text()
    times = shared.splitlines().count(f"line {line_of(number)} of {number}")
    assert times == own.exists(), f"half of the change of {number}"
    assert not own.exists() or own.read_text() == f"{number}\n"
    return own.exists()


def check(task: Task, repository: Path) -> None:
    """A task that ended says of its change what is there."""
    if task.state == TaskState.SUCCEEDED:
        assert task.result["applied"] in ("applied", "already")
        assert has(repository, task.position)
    elif task.failure == Failure.REJECTED:
        assert task.result["applied"] == "conflict", task.error
        assert [conflict["path"] for conflict in task.result["conflicts"]] == ["shared.txt"]
        assert "of nobody" not in task.result["conflicts"][0]["hunks"]
        assert not has(repository, task.position)
    else:
        # Killed while it applied: nobody knows what came of it, but it is all or nothing.
        assert task.failure == Failure.LOST, task.error
        has(repository, task.position)
    if task.failure != Failure.LOST:
        assert task.artefacts.filter(name="changes.patch").count() == 1


def test_thirty_agents_on_one_repository_outlive_two_kills(
    fleet: Fleet, repository: Path, workspace: str
) -> None:
    with ModelServer(change) as server:
        environment = {"OLLAMA_BASE_URL": server.url, "LEASE_SECONDS": 3}
        worker = fleet.start(slots=3, **environment)
        batch = submit(
            "agent",
            *({"description": f"Number {number}"} for number in range(TASKS)),
            workspace=workspace,
            options={"coder_model": "coder", "reviewer_model": None, "check_command": None},
            max_attempts=10,
        )
        tasks = Task.objects.filter(batch=batch)
        ended = tasks.exclude(state__in=[TaskState.QUEUED, TaskState.RUNNING])
        for enough in (7, 14):
            ends(batch, lambda enough=enough: ended.count() >= enough)
            until(tasks.filter(state=TaskState.RUNNING).exists, what="one runs")
            worker.kill()
            worker = fleet.start(slots=3, up=False, **environment)
        done(batch)
        for task in tasks:
            check(task, repository)
        if tasks.filter(failure=Failure.LOST).exists():
            operations.retry_batch(batch, failures=[Failure.LOST])
            done(batch)
            for task in tasks:
                check(task, repository)
    assert not tasks.filter(failure=Failure.LOST).exists()
    for number in range(TASKS):
        rivals = {line_of(number), number} | ({number + 1} if number % 5 == 3 else set())
        assert sum(has(repository, rival) for rival in rivals) == 1
    git(repository, "fsck", "--strict")
    assert git(repository, "worktree", "list").count("\n") == 1
    assert not (repository / ".git" / "worktrees").exists()
    assert list((repository / ".git" / "ollama-coder" / "attempts").iterdir()) == []
    assert not list((repository / ".git" / "ollama-coder").glob("left-*"))

"""Batches of an agent's tasks in a real worker, with a model server that a test scripts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from batches import operations
from batches.audit import Actor, Via
from batches.comparison.figures import columns, figures
from batches.models import Batch, Resource, Task, Workspace
from batches.states import TaskState
from batches.submission import Item, Variant
from tests.model_protocol import Asked, Reply, call, say
from tests.model_server import ModelServer
from tests.patience import PATIENCE
from tests.processes.fleet import Fleet, WorkerProcess, done, outcomes, submit, task_of, until

pytestmark = [pytest.mark.usefixtures("transactional_db"), pytest.mark.long]

OPTIONS: dict[str, Any] = {
    "coder_model": "coder",
    "reviewer_model": None,
    "check_command": None,
    "apply_changes": False,
}


def scripted(asked: Asked) -> Reply:
    """Writes the file that the task names, whose text is its name."""
    if asked.results:
        return say("Done.")
    [name] = [word for word in asked.task.split() if word.endswith(".txt")]
    return call(("write_file", {"path": name, "content": f"{name}\n"}))


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Workspace]:
    """A repository with one commit, registered as a workspace."""
    User.objects.create_superuser("tester")
    folder = tmp_path / "space"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "old.txt").write_text("old\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "begin")
    row = operations.add_workspace("space", folder)
    yield row
    Batch.objects.all().delete()
    row.delete()


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer(scripted) as server:
        yield server


@pytest.fixture
def worker(fleet: Fleet, space: Workspace, models: ModelServer, settings: Any) -> WorkerProcess:
    settings.MEDIA_ROOT = fleet.data_dir / "artefacts"  # the same as the worker's
    return fleet.start(slots=2, OLLAMA_BASE_URL=models.url)


def tasks(*names: str, **after: tuple[str, ...]) -> list[Item]:
    return [
        Item({"description": f"write {name}.txt"}, id=name, depends_on=after.get(name, ()))
        for name in names
    ]


def named(batch: Batch, name: str) -> Task:
    task: Task = batch.tasks.get(custom_id=name)
    return task


def by() -> Actor:
    return Actor(User.objects.get(username="tester"), Via.COMMAND)


def test_patches_wait_for_a_person_who_applies_or_discards_them(
    worker: WorkerProcess, space: Workspace
) -> None:
    folder = Path(space.path)
    items = tasks("a", "b", "c", b=("a",))
    batch = done(submit("agent", *items, workspace="space", options=OPTIONS))
    assert batch.summary["succeeded"] == 3, [task.error for task in batch.tasks.all()]
    a, b, c = (named(batch, name) for name in "abc")
    assert [task.result["applied"] for task in (a, b, c)] == ["pending"] * 3
    # What comes after another begins from that one's patch, and its own is apart from it.
    assert [file["path"] for file in b.result["patch"]["files"]] == ["b.txt"]
    assert git(folder, "status", "--porcelain") == ""

    operations.discard_patch(c, by=by())
    applying = [operations.apply_patch(task, by=by()) for task in (a, b)]
    for each in applying:
        assert done(each).summary["succeeded"] == 1, task_of(each).error
    assert {task_of(each).result["applied"] for each in applying} == {"applied"}
    assert sorted(git(folder, "status", "--porcelain").split()) == ["??", "??", "a.txt", "b.txt"]
    assert (folder / "b.txt").read_text() == "b.txt\n"
    assert len(git(folder, "worktree", "list").splitlines()) == 1


@pytest.mark.either
def test_no_task_dies_of_a_model_server_that_is_away_for_a_while(
    worker: WorkerProcess, models: ModelServer, space: Workspace
) -> None:
    models.stop()
    options = OPTIONS | {"apply_changes": True}
    batch = submit("agent", *tasks("a", "b"), workspace="space", options=options, max_attempts=1)
    until(
        lambda: Resource.objects.filter(name="model:coder", away_since__isnull=False).first(),
        what="the model is known to be away",
    )
    assert "ollama serve" in Resource.objects.get(name="model:coder").reason
    until(
        lambda: batch.tasks.filter(state=TaskState.QUEUED, waiting_for="model:coder").count() == 2,
        what="both tasks wait for it",
    )
    models.start()
    assert done(batch).summary["succeeded"] == 2
    assert {task.failures for task in batch.tasks.all()} == {0}
    assert outcomes(task_of(batch))[-1] == "succeeded"
    assert (Path(space.path) / "a.txt").read_text() == "a.txt\n"


@pytest.mark.either
def test_a_cancelled_task_leaves_nothing_in_the_repository(
    fleet: Fleet, space: Workspace, models: ModelServer
) -> None:
    models.answer = hanging = Hanging(models)
    fleet.start(slots=1, OLLAMA_BASE_URL=models.url)
    batch = submit("agent", *tasks("a"), workspace="space", options=OPTIONS)
    until(lambda: hanging.asked, what="the model is asked")
    folder = Path(space.path)
    assert len(git(folder, "worktree", "list").splitlines()) == 2
    operations.cancel_task(task_of(batch))
    assert done(batch).summary["cancelled"] == 1
    until(
        lambda: len(git(folder, "worktree", "list").splitlines()) == 1,
        what="the slot that came after it has cleared up",
    )
    hanging.server.stopping.set()


class Hanging:
    """Says nothing until its server is stopped."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.asked = False

    def __call__(self, asked: Asked) -> Reply:
        self.asked = True
        self.server.stopping.wait(PATIENCE)
        return say("Too late.")


def test_variants_are_compared_by_what_a_real_worker_found(
    worker: WorkerProcess, space: Workspace, client: Client
) -> None:
    variants = (
        Variant("plain"),
        Variant("checked", {"check_command": "pytest -q no_such_test.py"}),
    )
    wanted = {"workspace": "space", "options": OPTIONS | {"max_loops": 1}, "variants": variants}
    batch = done(submit("agent", *tasks("a", "b"), **wanted))
    plain, checked = figures(columns([batch]))
    errors = [task.error for task in batch.tasks.all()]
    assert (plain.passed, plain.judged) == (2, 2), errors
    assert (checked.passed, checked.judged) == (0, 2), errors
    assert plain.turns == [2, 2]
    assert plain.loops == [1, 1]
    assert plain.tokens_in > 0 < plain.tokens_out

    client.force_login(User.objects.get(username="tester"))
    for variant, words in (("plain", "Passed, not reviewed"), ("checked", "Check failed")):
        task = batch.tasks.get(custom_id="a", variant=variant)
        said = client.get(f"/batch/tasks/{task.pk}/transcript").json()["results"]
        assert {"prompt", "turn", "tool"} <= {line["event"] for line in said}
        page = client.get(f"/admin/batches/task/{task.pk}/change/").text
        for each in (words, "calls write_file", '<span class="oc-add">+a.txt', "do/keep/"):
            assert each in page, each
        whole = client.get(f"/batch/tasks/{task.pk}/transcript?format=jsonl")
        assert len(b"".join(whole.streaming_content).splitlines()) == len(said)

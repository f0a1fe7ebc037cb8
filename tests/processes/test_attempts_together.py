"""What attempts are told of each other: patches to begin from, whose workspace it is, leftovers."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage

from agents.contract import lease_clock
from batches import operations, registry
from batches.models import Artefact, Batch, Task, Workspace
from batches.queue.claim import claim
from batches.queue.walk import Claimant
from batches.submission import Item
from batches.supervision import watch
from batches.supervision.supervisor import Profile, Supervisor
from batches.supervision.watch import Watch
from tests.patience import PATIENCE
from tests.processes.fleet import submit, task_of
from tests.queueing import Places, skip_backoff

pytestmark = pytest.mark.usefixtures("transactional_db")


class Worker:
    """A supervisor turned by hand, that claims whatever may run as long as it has room."""

    def __init__(self, slots: int, scratch: Path) -> None:
        self.supervisor = Supervisor(Profile(slots, registry.kinds(), scratch))
        self.watch = Watch(self.supervisor)
        self.supervisor.workspaces = {row.pk: row for row in Workspace.objects.all()}

    def turn(self) -> None:
        for slot in list(self.supervisor.slots):
            slot.flush()
            self.supervisor.hear(slot)
        self.watch.turn()
        self.supervisor.ledger.commit()
        self.supervisor.assign()
        free = len([slot for slot in self.supervisor.slots if slot.ready and slot.idle])
        if free:
            claimant = Claimant("w", "database", workspaces=frozenset(self.supervisor.workspaces))
            places = Places(free, kinds=set(registry.kinds()))
            self.supervisor.offer(claim(claimant, places), lease_clock() + 60)
        time.sleep(0.005)

    def until(self, look: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not look():
            assert time.monotonic() < deadline, "it did not happen in time"
            self.turn()

    def finish(self, batch: Batch) -> None:
        self.until(lambda: not Task.objects.unfinished().filter(batch=batch).exists())


@pytest.fixture
def workspace(transactional_db: None, tmp_path: Path) -> Workspace:
    User.objects.create_superuser("tester")
    folder = tmp_path / "space"
    folder.mkdir()
    return operations.add_workspace("space", folder)


@pytest.fixture
def worker(workspace: Workspace, tmp_path: Path) -> Iterator[Worker]:
    made = Worker(2, tmp_path / "scratch")
    made.until(lambda: all(slot.ready for slot in made.supervisor.slots))
    yield made
    made.supervisor.stop_now()


def starts(batch: Batch, name: str) -> list[str]:
    task = batch.tasks.get(custom_id=name)
    assert task.state == "succeeded", task.error
    return [start["patch"].strip() for start in task.result["inputs"]["start"]]


def heir(name: str, *needed: str, **more: object) -> Item:
    return Item({"text": name, **more}, id=name, depends_on=needed)


def test_a_task_is_told_the_patches_of_all_before_it_in_their_order(worker: Worker) -> None:
    batch = submit(
        "heir",
        heir("last", "left", "right"),
        heir("left", "first", "idle"),
        heir("right", "first"),
        heir("first"),
        heir("idle", idle=True),
        heir("unrelated"),
    )
    worker.finish(batch)
    assert starts(batch, "first") == starts(batch, "unrelated") == []
    assert starts(batch, "left") == starts(batch, "right") == ["+first"]
    assert starts(batch, "last") == ["+first", "+left", "+right"]
    [start] = batch.tasks.get(custom_id="left").result["inputs"]["start"]
    first = batch.tasks.get(custom_id="first")
    assert start == {"task": str(first.pk), "base_commit": "c0ffee", "patch": "+first\n"}


@pytest.mark.parametrize("kept", ["no row", "no file"])
def test_a_task_does_not_begin_without_a_patch_that_it_needs(worker: Worker, kept: str) -> None:
    batch = submit("heir", heir("first"), heir("second", "first"), max_attempts=1, parallel=1)
    first = batch.tasks.get(custom_id="first")
    worker.until(lambda: Task.objects.get(pk=first.pk).state == "running")
    operations.pause_batch(batch)
    worker.until(lambda: Task.objects.get(pk=first.pk).state == "succeeded")
    artefact = Artefact.objects.get(task=first, name="changes.patch")
    default_storage.delete(artefact.file.name)
    if kept == "no row":
        artefact.delete()
    operations.resume_batch(batch)
    worker.finish(batch)
    second = batch.tasks.get(custom_id="second")
    assert (second.state, second.failure) == ("failed", "error")
    assert second.error.startswith("The patch of first ")
    assert second.result is None


def test_two_attempts_never_have_one_workspace_to_themselves(
    worker: Worker, tmp_path: Path
) -> None:
    file, gate = tmp_path / "lines", tmp_path / "gate"
    payload = {"file": str(file), "gate": str(gate)}
    batch = submit("alone", payload, payload, workspace="space")
    worker.until(lambda: all(slot.jobs for slot in worker.supervisor.slots))
    worker.until(file.exists)
    began = time.monotonic()
    worker.until(lambda: time.monotonic() - began > 1.0)  # the other asks a few times
    assert len(file.read_text().split("\n")) == 2
    assert Task.objects.filter(effect_at__isnull=False).count() == 1
    gate.touch()
    worker.finish(batch)
    lines = [line.split() for line in file.read_text().splitlines()]
    assert [what for _, what in lines] == ["begins", "ends"] * 2
    assert lines[0][0] == lines[1][0]
    assert lines[2][0] == lines[3][0]
    assert {task.state for task in batch.tasks.all()} == {"succeeded"}


def test_who_was_killed_has_no_workspace_any_more(worker: Worker, tmp_path: Path) -> None:
    file, gate = tmp_path / "lines", tmp_path / "gate"
    payload = {"file": str(file), "gate": str(gate)}
    batch = submit("alone", payload, payload, workspace="space")
    worker.until(lambda: all(slot.jobs for slot in worker.supervisor.slots))
    worker.until(lambda: file.exists() and file.read_text())
    holder = file.read_text().split()[0]
    operations.cancel_task(Task.objects.get(pk=holder))
    worker.until(lambda: len(file.read_text().splitlines()) == 2)
    assert file.read_text().split()[2] != holder
    gate.touch()
    worker.finish(batch)
    assert sorted(task.state for task in batch.tasks.all()) == ["cancelled", "succeeded"]


def running_in(worker: Worker, batch: Batch) -> int:
    """The number of the slot that runs the first task of the batch."""
    task = str(task_of(batch).pk)
    [number] = [s.number for s in worker.supervisor.slots if s.jobs and s.jobs[0].id == task]
    return number


def test_what_a_killed_attempt_left_is_cleared_by_the_next_process(
    worker: Worker, workspace: Workspace, tmp_path: Path
) -> None:
    folder = Path(workspace.path)
    batch = submit("messy", {"gate": str(tmp_path / "never")}, workspace="space", max_attempts=1)
    worker.until(lambda: list(folder.glob("left-*")))
    number = running_in(worker, batch)
    operations.cancel_task(task_of(batch))
    worker.until(lambda: worker.supervisor.slots[number].tidying)
    assert worker.supervisor.slots[number].closed
    worker.finish(batch)
    worker.until(lambda: not worker.supervisor.slots[number].tidying)
    assert list(folder.glob("left-*")) == []


def test_clearing_up_that_fails_is_said_and_ends_nothing(
    worker: Worker, workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, gate = Path(workspace.path), tmp_path / "gate"
    (folder / "stuck").touch()
    batch = submit("messy", {"gate": str(gate)}, workspace="space", max_attempts=2)
    worker.until(lambda: list(folder.glob("left-*")))
    slot = worker.supervisor.slots[running_in(worker, batch)]
    with caplog.at_level(logging.ERROR):
        slot._process.send_signal(signal.SIGKILL)
        worker.until(lambda: "what a killed attempt left behind stays" in caplog.text)
    assert "it cannot be cleared" in caplog.text
    gate.touch()
    skip_backoff()
    worker.finish(batch)
    assert task_of(batch).state == "succeeded"
    assert task_of(batch).attempt == 2


def test_clearing_up_that_hangs_is_ended(
    worker: Worker, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "TIDY_TIMEOUT", 0.2)
    slot = worker.supervisor.slots[1]
    kind = registry.kind("hang")
    slot.tidy(kind.processor_path, worker.supervisor._place(workspace.pk))
    worker.until(lambda: worker.supervisor.slots[1] is not slot)
    worker.until(lambda: worker.supervisor.slots[1].ready)
    assert worker.supervisor.slots[1].idle

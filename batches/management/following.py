"""Watching one batch to its end from a command: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.core.management.base import CommandError, OutputWrapper
from django.utils import timezone
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from batches.management.base import typed
from batches.models import Batch, Task
from batches.progress import progress, shown_status
from batches.states import FINISHED, BatchState, BatchStatus, TaskState

LOOK_EVERY = 0.5
LINE_EVERY = 5.0
FAILURES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Glance:
    """A batch at one moment."""

    name: str
    status: BatchStatus
    counts: dict[str, int]
    total: int
    seconds_left: float | None
    over: bool

    @property
    def finished(self) -> int:
        return sum(self.counts[state] for state in FINISHED)

    def words(self) -> str:
        """Such as ``running: 3 running, 1 failed, about 0:00:12 left``."""
        shown = (TaskState.RUNNING, TaskState.FAILED, TaskState.CANCELLED)
        parts = [f"{self.counts[state]} {state}" for state in shown if self.counts[state]]
        if self.seconds_left and not self.over:
            parts.append(f"about {timedelta(seconds=round(self.seconds_left))} left")
        return f"{self.status}: {', '.join(parts)}" if parts else str(self.status)


def look(batch_id: UUID) -> Glance:
    """
    Raises:
        CommandError: there is no such batch (any more).
    """
    rows = Batch.objects.filter(pk=batch_id).sealed().annotate(status=shown_status())
    batch = rows.first()
    if batch is None:
        raise CommandError(f"There is no batch {batch_id}.")
    now = progress(batch, rows.counts()[batch_id], timezone.now())
    return Glance(
        name=str(batch),
        status=BatchStatus(batch.status),
        counts=now.counts,
        total=batch.total,
        seconds_left=now.seconds_left,
        over=batch.state == BatchState.DONE,
    )


def glances(batch_id: UUID) -> Iterator[Glance]:
    """Look again and again until the batch is done."""
    while True:
        glance = look(batch_id)
        yield glance
        if glance.over:
            return
        time.sleep(LOOK_EVERY)


class Bar:
    """For a terminal."""

    def __init__(self, *, stderr: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}"),
            console=Console(stderr=stderr),
        )
        self._bar = self._progress.add_task("", words="")

    def display(self) -> AbstractContextManager[object]:
        return self._progress

    def show(self, glance: Glance) -> None:
        self._progress.update(
            self._bar,
            description=glance.name,
            completed=glance.finished,
            total=glance.total,
            words=glance.words(),
        )


class Lines:
    """For a file or a pipe: a line when something changed, not more than one in a while."""

    def __init__(self, out: OutputWrapper) -> None:
        self._out = out
        self._last = ""
        self._at = float("-inf")

    def display(self) -> AbstractContextManager[object]:
        return nullcontext()

    def show(self, glance: Glance) -> None:
        line = f"{glance.finished}/{glance.total} {glance.words()}"
        now = time.monotonic()
        if line == self._last or (now - self._at < LINE_EVERY and not glance.over):
            return
        self._out.write(line)
        self._out.flush()
        self._last, self._at = line, now


def follow(batch_id: UUID, out: OutputWrapper, *, stderr: bool = False) -> BatchStatus:
    """Show the batch's progress until it is done; return how it ended.

    Ctrl-C ends the watching, not the batch.
    """
    view = Bar(stderr=stderr) if out.isatty() else Lines(out)
    glance = None
    try:
        with view.display():
            for glance in glances(batch_id):
                view.show(glance)
    except KeyboardInterrupt:
        raise CommandError(
            f"No longer watching; the batch goes on. Again: {typed(f'watch {batch_id}')}",
            returncode=130,
        ) from None
    assert glance is not None  # noqa: S101 (look raised otherwise)
    return glance.status


def failures(batch_id: UUID) -> Iterator[str]:
    """A line for each of the first tasks that failed, and one that counts the rest."""
    failed = Task.objects.filter(batch=batch_id, state=TaskState.FAILED)
    for task in failed.order_by("position")[:FAILURES_SHOWN]:
        reason = (task.error.strip().splitlines() or [""])[0]
        yield f"  {task.custom_id}: {task.failure}{': ' if reason else ''}{reason[:200]}"
    if (more := failed.count() - FAILURES_SHOWN) > 0:
        yield f"  and {more} more"

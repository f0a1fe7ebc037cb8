"""Measures the queue with real worker processes. Everything that is timed is verified as well."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from signal import Signals

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone

from agents.contract import JSON
from batches import operations
from batches.management.peer import answer
from batches.management.processes import Child, Program, running
from batches.models import Attempt, Batch, Queue, Task, Worker
from batches.progress import shown_status
from batches.states import FINISHED, BatchState, BatchStatus
from batches.submission import Item, Submission

QUEUE = "default"
SAMPLES = 200
IDLE_SECONDS = 3.0
IN_FRONT_CHUNK = 1000
"""Tasks of each batch that stands in front."""
PATIENCE = 60.0
"""Seconds without one more finished task after which it is given up."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. ``in_front`` is the number of paused tasks, and that of scheduled ones;
    ``rounds`` that of the runs without and behind them."""

    tasks: int
    slots: int
    workers: int
    in_front: int
    rounds: int


class Benchmark:
    """One side: an empty database, with workers that are started and stopped for it.

    Obeys the lines ``alone``, ``crowd`` and ``stored`` of ``batches.management.rounds``.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._owner = User.objects.create_user("benchmark")

    def serve(self) -> None:
        """Until standard input ends."""
        with workers(self._plan.workers, self._plan.slots) as children:
            self._wait_for_workers()
            answer(database=database_name(), commit_policy=commit_policy())
            for line in sys.stdin:
                match line.strip():
                    case "alone":
                        idle = self._idle(children)
                        waits = self._pickups()
                        percentiles = statistics.quantiles(waits, n=100, method="inclusive")
                        answer(idle=idle, p50=statistics.median(waits), p99=percentiles[98])
                    case "crowd":
                        self._crowd()
                        answer()
                    case "stored":
                        submit_rate, stored_rate = self._stored()
                        answer(submit_rate=submit_rate, stored_rate=stored_rate)

    def _submit(self, kind: str, number: int, **options: object) -> Batch:
        items = (Item(payload={}) for _ in range(number))
        return operations.submit(self._owner, Submission(kind=kind, items=items, **options))  # type: ignore[arg-type]

    def _wait_for_workers(self) -> None:
        """Until each of them is there and has run something."""
        wait_for(lambda: Worker.objects.live().count() == self._plan.workers)
        for _ in range(3):
            self._finished(self._submit("noop", 100 * self._plan.workers))

    # -- an idle worker

    def _idle(self, children: Sequence[Child]) -> float | None:
        pids = [child.process.pid for child in children[:1] if child.process]
        time.sleep(1.0)  # what the last batch left to do is no idleness
        began, before = time.monotonic(), cpu_seconds(pids)
        time.sleep(IDLE_SECONDS)
        passed, after = time.monotonic() - began, cpu_seconds(pids)
        if before is None or after is None:
            return None
        return (after - before) / passed * 100

    # -- from the commit of a submission to the start of its task

    def _pickups(self) -> list[float]:
        """Seconds, for single tasks on idle workers.

        From the statement that seals the batch, by the database's clock, to the first line of
        the processor, by the clock of this machine.
        """
        number = max(2, min(SAMPLES, self._plan.tasks // 100))
        ahead = clock_difference()
        waits = []
        for _ in range(number):
            batch = self._submit("clock", 1)
            self._finished(batch, often=True)
            began: float = Task.objects.values_list("result__began", flat=True).get(batch=batch)
            assert batch.sealed_at is not None  # noqa: S101 (it was submitted)
            waits.append(began - batch.sealed_at.timestamp() - ahead)
            time.sleep(0.01)
        return waits

    # -- many tasks

    def _stored(self) -> tuple[float, float]:
        """Submit tasks to a paused queue, let them run: both rates.

        The second clock stops when the batch is closed and every row was verified.
        """
        number = self._plan.tasks
        queue = Queue.objects.get(pk=QUEUE)
        operations.change_queue(queue, paused=True)
        began = time.monotonic()
        batch = self._submit("noop", number)
        submitted = time.monotonic() - began
        operations.change_queue(queue, paused=False)
        began = time.monotonic()
        self._finished(batch)
        verify(batch)
        stored = time.monotonic() - began
        return number / submitted, number / stored

    def _crowd(self) -> None:
        """Put paused and later-scheduled tasks in front of all others, by priority."""
        number = self._plan.in_front
        queue = Queue.objects.get(pk=QUEUE)
        operations.change_queue(queue, paused=True)
        tomorrow = timezone.now() + timedelta(days=1)
        for name, options in (("paused", {}), ("scheduled", {"run_at": tomorrow})):
            chunks = [IN_FRONT_CHUNK] * (number // IN_FRONT_CHUNK)
            chunks += [rest] if (rest := number % IN_FRONT_CHUNK) else []
            for chunk in chunks:
                batch = self._submit("noop", chunk, priority=10, **options)
                if name == "paused":
                    operations.pause_batch(batch)
        operations.change_queue(queue, paused=False)

    def _finished(self, batch: Batch, *, often: bool = False) -> None:
        """Wait until the batch is closed; give up when nothing moves any more."""
        done, moved = 0, time.monotonic()
        looked = moved
        while not Batch.objects.filter(pk=batch.pk, state=BatchState.DONE).exists():
            now = time.monotonic()
            if now - looked > PATIENCE / 10:
                # Counting costs the database something: it is done where it takes long.
                looked = now
                count = Task.objects.filter(batch=batch, state__in=FINISHED).count()
                if count > done:
                    done, moved = count, now
            if now - moved > PATIENCE:
                raise CommandError(f"No task ended for {PATIENCE:.0f} s. Do the workers run?")
            time.sleep(0.002 if often else 0.02)


@contextlib.contextmanager
def workers(number: int, slots: int) -> Iterator[list[Child]]:
    """Worker processes that end with the block, or with this process."""
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "worker"]
    program = Program("worker", [*command, "--slots", str(slots)], Signals.SIGTERM, Signals.SIGTERM)
    with running([Child(program) for _ in range(number)]) as children:
        yield children


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise CommandError("The workers did not start: see their messages above.")
        time.sleep(0.02)


def verify(batch: Batch) -> None:
    """Every task succeeded, once; what was handed back unbegun on a busy machine ran later.

    Raises:
        CommandError: not so.
    """
    tasks = Task.objects.filter(batch=batch)
    wrong = tasks.exclude(state="succeeded").count()
    attempts = Attempt.objects.filter(task__batch=batch)
    succeeded = attempts.filter(outcome="succeeded")
    once = {tasks.count(), succeeded.count(), succeeded.values("task").distinct().count()}
    others = attempts.exclude(outcome__in=("succeeded", "released")).count()
    status = Batch.objects.annotate(shown=shown_status()).get(pk=batch.pk).shown
    if wrong or others or once != {batch.total} or status != BatchStatus.COMPLETED:
        raise CommandError(
            f"The rows are wrong: of {batch.total} tasks there are {tasks.count()}, {wrong} did "
            f"not succeed, {succeeded.count()} attempts did, {others} failed; it is {status}."
        )


def cpu_seconds(pids: Sequence[int]) -> float | None:
    """Used so far by these processes and their children; None where /proc does not tell."""
    ticks = 0
    try:
        for pid in pids:
            family = [str(pid)]
            for thread in Path(f"/proc/{pid}/task").iterdir():
                family += (thread / "children").read_text().split()
            for member in family:
                fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
    except OSError:
        return None
    return ticks / 100  # USER_HZ is 100 wherever Linux shows it, proc(5)


def clock_difference() -> float:
    """Seconds that this machine's clock is ahead of the database's."""
    best = (float("inf"), 0.0)
    for _ in range(5):
        before = time.time()
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SELECT extract(epoch from clock_timestamp())")
            else:
                cursor.execute("SELECT (julianday('now') - 2440587.5) * 86400.0")
            [there] = cursor.fetchone()
        after = time.time()
        best = min(best, (after - before, (before + after) / 2 - float(there)))
    return best[1]


def database_name() -> str:
    connection.ensure_connection()
    version = ".".join(str(part) for part in connection.get_database_version())
    return f"{connection.display_name} {version}"


def commit_policy() -> str:
    """What a commit waits for."""
    names: JSON
    if connection.vendor == "postgresql":
        names = {name: f"SHOW {name}" for name in ("synchronous_commit", "fsync")}
    else:
        names = {name: f"PRAGMA {name}" for name in ("journal_mode", "synchronous")}
    words = []
    with connection.cursor() as cursor:
        for name, statement in names.items():
            cursor.execute(statement)
            [value] = cursor.fetchone()
            if name == "synchronous" and connection.vendor == "sqlite":
                value = ("OFF", "NORMAL", "FULL", "EXTRA")[value]
            words.append(f"{name}={value}")
    return ", ".join(words)

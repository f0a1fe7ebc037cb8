"""Real worker processes on the test's database, and how to wait for what they do."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from django.contrib.auth.models import User
from django.db import connection

from batches import operations
from batches.models import Batch, Task, Worker
from batches.states import BatchState, TaskState
from batches.submission import Item, Submission
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def pause(began: float) -> None:
    """Between two looks: the longer, the longer has been waited. Looks take time from others."""
    time.sleep(min(0.2, max(0.03, (time.monotonic() - began) / 20)))


def until(look: Callable[[], T], *, within: float = PATIENCE, what: str = "") -> T:
    """The first true answer; fails when there is none in time."""
    began = time.monotonic()
    while not (seen := look()):
        assert time.monotonic() < began + within, f"not within {within} s: {what or look}"
        pause(began)
    return seen


def ends(batch: Batch, look: Callable[[], T]) -> T:
    """The first true answer, for which tasks of the batch must end.

    Fails when none ended for as long as tests are patient, and says how they stand.
    """
    began = time.monotonic()
    ended, deadline, count_at = -1, 0.0, 0.0
    while not (seen := look()):
        if (now := time.monotonic()) > count_at:
            count_at = now + 1.0
            count = Task.objects.filter(batch=batch, finished_at__isnull=False).count()
            if count != ended:
                ended, deadline = count, now + PATIENCE
            assert now < deadline, f"no task ended for {PATIENCE} s:\n{story(batch)}"
        pause(began)
    return seen


def story(batch: Batch) -> str:
    """How the tasks of a batch stand, and how their attempts ended."""
    lines = [f"{batch}: {Batch.objects.get(pk=batch.pk).state}"]
    for task in Task.objects.filter(batch=batch).prefetch_related("attempts").order_by("position"):
        attempts = ", ".join(
            f"{attempt.outcome or 'runs'} {attempt.error[:80]}".strip()
            for attempt in sorted(task.attempts.all(), key=lambda attempt: attempt.number)
        )
        waits = f" for {task.waiting_for}" if task.waiting_for else ""
        lines.append(f"{task.position}: {task.state}{waits}; {attempts or 'never ran'}")
    return "\n".join(lines)


def database_url() -> str:
    """The address of the database this test is connected to."""
    entry = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{quote(str(entry['NAME']))}"
    user, password = quote(entry["USER"]), quote(entry["PASSWORD"])
    place = f"{entry['HOST']}:{entry['PORT'] or 5432}"
    return f"postgres://{user}{':' if password else ''}{password}@{place}/{quote(entry['NAME'])}"


def gone(pid: int) -> bool:
    """Has this process ended? One that only waits to be collected by its parent has."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] in {"Z", "X"}


class WorkerProcess:
    """``manage.py worker``, as a person would start it."""

    command = ("-W", "error", "manage.py", "worker", "--slots")

    def __init__(
        self, data_dir: Path, number: int, slots: int, arguments: Sequence[str], **env: object
    ) -> None:
        self._log = data_dir / f"worker-{number}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command, str(slots), *arguments],
                cwd=ROOT,
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": "tests.settings",
                    "DATABASE_URL": database_url(),
                    "DATA_DIR": str(data_dir),
                    **{name: str(value) for name, value in env.items()},
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def row(self) -> Worker | None:
        return Worker.objects.filter(pid=self.pid).first()

    @property
    def name(self) -> str:
        assert self.row is not None
        return self.row.name

    def wait_until_up(self) -> None:
        """Until it has all its slots: signals are heard from then on, and work is claimed."""

        def up() -> bool:
            assert self.process.poll() is None, f"the worker ended:\n{self.log}"
            row = self.row
            return row is not None and len(self.slots()) == row.slots

        until(up, what="the worker is up")

    def slots(self) -> list[int]:
        """The pids of its children."""
        found: list[int] = []
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += map(int, (thread / "children").read_text().split())
        return found

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def supervisors(self) -> list[int]:
        """The pids of the processes that hold leases."""
        return [self.pid]

    def hurry(self) -> None:
        """Ask it to hand back what runs, after it was asked to end."""
        self.signal(signal.SIGTERM)

    def freeze(self) -> None:
        for pid in self.supervisors():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self.supervisors():
            os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and collect it."""
        self.process.kill()
        self.process.wait()

    def ends(self, *, within: float = PATIENCE) -> int:
        """Its exit code."""
        return self.process.wait(timeout=within)


class CeleryProcess(WorkerProcess):
    """``celery worker``, as ``deploy/start_celery_worker.sh`` starts it; its pool's processes are
    its slots."""

    command = (
        "-m",
        "celery",
        "-A",
        "config",
        "worker",
        "--without-mingle",
        "--without-gossip",
        "--loglevel=INFO",
        "--concurrency",
    )

    def __init__(
        self, data_dir: Path, number: int, slots: int, arguments: Sequence[str], **env: object
    ) -> None:
        super().__init__(data_dir, number, slots, [f"--hostname=w{number}@%h", *arguments], **env)

    def wait_until_up(self) -> None:
        def up() -> bool:
            assert self.process.poll() is None, f"the worker ended:\n{self.log}"
            return " ready." in self.log

        until(up, what="the worker is up")

    def supervisors(self) -> list[int]:
        """Its pool, and itself."""
        return [self.pid, *self.slots()]

    def hurry(self) -> None:
        self.signal(signal.SIGQUIT)

    def kill(self) -> None:
        """SIGKILL to the processes of its pool as well, as when the machine is lost."""
        pool = self.slots() if self.process.poll() is None else []
        super().kill()
        for pid in pool:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Fleet:
    """The workers of one test; whatever is left of them at its end is killed.

    With the address of a broker they are Celery's.
    """

    def __init__(self, data_dir: Path, broker_url: str = "", **environment: object) -> None:
        self.data_dir = data_dir
        self.broker_url = broker_url
        self.environment = {"CELERY_BROKER_URL": broker_url, **environment}
        self.workers: list[WorkerProcess] = []

    def start(self, *arguments: str, slots: int = 2, up: bool = True, **env: Any) -> WorkerProcess:
        kind = CeleryProcess if self.broker_url else WorkerProcess
        environment = {**self.environment, **env}
        worker = kind(self.data_dir, len(self.workers), slots, arguments, **environment)
        self.workers.append(worker)
        if up:
            worker.wait_until_up()
        return worker

    def close(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.thaw()
                worker.kill()


def submit(kind: str, *payloads: dict[str, Any], **options: Any) -> Batch:
    """A batch of the person ``tester``, one task for each payload."""
    owner, _ = User.objects.get_or_create(username="tester")
    items = [
        payload if isinstance(payload, Item) else Item(payload=payload) for payload in payloads
    ]
    return operations.submit(owner, Submission(kind=kind, items=items, **options))


def done(batch: Batch, *, within: float | None = None) -> Batch:
    """The batch, once it is closed: in so many seconds, or for as long as its tasks end."""

    def closed() -> Batch | None:
        return Batch.objects.filter(pk=batch.pk, state=BatchState.DONE).first()

    if within is None:
        return ends(batch, closed)
    return until(closed, within=within, what=f"the batch {batch} is closed")


def task_of(batch: Batch, position: int = 0) -> Task:
    task: Task = Task.objects.get(batch=batch, position=position)
    return task


def outcomes(task: Task) -> list[str]:
    """How its attempts ended, in order; their numbers go from 1 without a gap."""
    attempts = list(task.attempts.order_by("number"))
    assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
    return [attempt.outcome for attempt in attempts]


def running(worker: WorkerProcess) -> int:
    """How many tasks it runs."""
    return Task.objects.filter(state=TaskState.RUNNING, worker=worker.name).count()


def pids(prefix: Path, attempt: int = 1) -> list[int]:
    """What ``Linger`` wrote of its processes, once it has."""
    written = Path(f"{prefix}-{attempt}")
    until(written.exists, what=f"attempt {attempt} runs")
    return [int(word) for word in written.read_text().split()]

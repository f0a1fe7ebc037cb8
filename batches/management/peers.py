"""Celery with our rows beside plain Celery, in turn.

Each has processes, a database and a broker of its own, and waits for nothing the other left.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from signal import Signals

from django.conf import settings
from rich.progress import Progress
from rich.table import Table

from batches.management.peer import Peer, peer_process
from batches.management.processes import Child, Program, running
from batches.management.scratch import scratch_installation
from batches.management.scratch_broker import scratch_broker

OURS, PLAIN = "config.benchmark", "config.plain"
WARM_UP = 200
"""Tasks of each before the first round, or as many as a round has."""
LARGE = 10_000
"""Tasks of the submission of which the answer is waited for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Tasks of each round, rounds of each of the two, and the processes that run them."""

    tasks: int
    rounds: int
    slots: int
    workers: int


@dataclass(frozen=True, slots=True)
class Round:
    """Tasks a second, from the first call of a submission until all is stored and verified."""

    ours: float
    plain: float

    @property
    def ratio(self) -> float:
        return self.ours / self.plain


@dataclass(frozen=True, slots=True)
class Comparison:
    database: str
    commit_policy: str
    broker: str
    pool: str
    """What holds for the workers of both."""
    plan: Plan
    rounds: list[Round]
    ratio: float
    """The median of those of the rounds."""
    answer_seconds: float
    """Until a submission of so many tasks as ``LARGE`` says was answered."""


def compare(plan: Plan, progress: Progress) -> Comparison:
    manage = [str(settings.BASE_DIR / "manage.py"), "benchmark", "--backend", "celery", "--inside"]
    bar = progress.add_task("rounds", total=2 * plan.rounds)
    with (
        _peer("Ours", OURS, manage, plan) as ours,
        _peer("Plain Celery", PLAIN, ["-m", "config.plain_celery"], plan) as plain,
    ):
        for peer in (ours, plain):
            peer.ask(f"run {min(WARM_UP, plan.tasks)}")
        answered = ours.ask(f"answer {LARGE}")
        rounds = []
        for _ in range(plan.rounds):
            rates = []
            for peer in (ours, plain):
                rates.append(plan.tasks / peer.ask(f"run {plan.tasks}")["seconds"])
                progress.advance(bar)
            rounds.append(Round(*rates))
    return Comparison(
        database=ours.ready["database"],
        commit_policy=ours.ready["commit_policy"],
        broker=ours.ready["broker"],
        pool=_pool(),
        plan=plan,
        rounds=rounds,
        ratio=statistics.median(one.ratio for one in rounds),
        answer_seconds=answered["seconds"],
    )


def _pool() -> str:
    return (
        f"late acknowledgement, prefetch {settings.CELERY_WORKER_PREFETCH_MULTIPLIER}, a process "
        f"for {settings.CELERY_WORKER_MAX_TASKS_PER_CHILD} tasks, a connection to the database for "
        f"{settings.CELERY_DB_REUSE_MAX}, events for Flower"
    )


@contextlib.contextmanager
def _peer(name: str, module: str, client: Sequence[str], plan: Plan) -> Iterator[Peer]:
    """Its client, once the tables are there, and then its workers; nothing of it is left after."""
    with (
        scratch_broker() as broker,
        scratch_installation(module, LOG_LEVEL="WARNING", **broker) as environment,
        peer_process(name, client, environment) as peer,
        _workers(peer.ready["application"], environment, plan) as peer.workers,
    ):
        yield peer


@contextlib.contextmanager
def _workers(application: str, environment: Mapping[str, str], plan: Plan) -> Iterator[list[Child]]:
    """As ``deploy/start_celery_worker.sh`` starts them."""
    command = [
        sys.executable, "-m", "celery", "--quiet", "-A", application, "worker",
        "--pool", "prefork", "--concurrency", str(plan.slots), "--loglevel", "WARNING",
        "--task-events", "--without-mingle", "--without-gossip",
    ]  # fmt: skip
    name = environment["BENCHMARK_NAME"]
    children = [
        Child(
            Program(
                "worker",
                [*command, "--hostname", f"{name}-{number}@%h"],
                Signals.SIGQUIT,
                Signals.SIGTERM,
                environment=environment,
                mute=True,
            )
        )
        for number in range(plan.workers)
    ]
    with running(children):
        yield children


def table(found: Comparison) -> Table:
    plan = found.plan
    shown = Table(
        "",
        "Ours",
        "Plain Celery",
        "Ratio",
        title=f"{plan.tasks:,} tasks a round, {plan.workers} worker(s) of {plan.slots} processes",
        caption=f"{found.database} ({found.commit_policy}), {found.broker}. "
        f"The workers of both: {found.pool}.",
    )
    for number, one in enumerate(found.rounds, 1):
        rates = f"{one.ours:,.0f} tasks/s", f"{one.plain:,.0f} tasks/s"
        shown.add_row(f"Round {number}: stored and verified", *rates, f"{one.ratio:.2f}")
    shown.add_section()
    shown.add_row("Median of the ratios", "", "", f"{found.ratio:.2f}")
    shown.add_row(f"Answer to {LARGE:,} tasks over REST", f"{found.answer_seconds:.2f} s", "", "")
    return shown

"""The database backend measured in rounds: a run without anything else, then one behind a crowd.

Each in a database of its own, and in turn, so that what else the machine and the server do
meanwhile, such as a checkpoint after the crowd was written, falls on both.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings
from rich.progress import Progress
from rich.table import Table

from batches.management.benchmarking import Plan
from batches.management.peer import Peer, peer_process
from batches.management.scratch import scratch_installation

SETTINGS = "config.benchmark"
"""The shipped settings and a kind that does nothing."""


@dataclass(frozen=True, slots=True)
class Round:
    """Tasks stored in a second."""

    alone: float
    behind: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Rates in tasks a second, latencies in milliseconds; medians of the rounds."""

    database: str
    commit_policy: str
    plan: Plan
    submit_rate: float
    stored_rate: float
    pickup_p50: float
    pickup_p99: float
    stored_rate_behind: float
    behind_ratio: float
    """The median of those of the rounds."""
    rounds: list[Round]
    idle_percent: float | None
    """Of one core, for one worker with its slots; None where /proc does not tell."""


def measure(plan: Plan, progress: Progress) -> Figures:
    bar = progress.add_task("preparing, and one worker idle", total=1)
    with _side("The run alone", plan) as alone:
        told = alone.ask("alone")
        progress.update(bar, completed=1)
        bar = progress.add_task("the crowd in front", total=1)
        with _side("The run behind a crowd", plan) as behind:
            behind.ask("crowd")
            progress.update(bar, completed=1)
            bar = progress.add_task("rounds", total=2 * plan.rounds)
            submitted, rounds = [], []
            for _ in range(plan.rounds):
                stored = []
                for side in (alone, behind):
                    rates = side.ask("stored")
                    stored.append(rates["stored_rate"])
                    if side is alone:
                        submitted.append(rates["submit_rate"])
                    progress.advance(bar)
                rounds.append(Round(*stored))
    return Figures(
        database=alone.ready["database"],
        commit_policy=alone.ready["commit_policy"],
        plan=plan,
        submit_rate=statistics.median(submitted),
        stored_rate=statistics.median(one.alone for one in rounds),
        pickup_p50=told["p50"] * 1000,
        pickup_p99=told["p99"] * 1000,
        stored_rate_behind=statistics.median(one.behind for one in rounds),
        behind_ratio=statistics.median(one.behind / one.alone for one in rounds),
        rounds=rounds,
        idle_percent=told["idle"],
    )


@contextlib.contextmanager
def _side(name: str, plan: Plan) -> Iterator[Peer]:
    arguments = [str(settings.BASE_DIR / "manage.py"), "benchmark", "--inside"]
    arguments += ["--tasks", str(plan.tasks), "--slots", str(plan.slots)]
    arguments += ["--workers", str(plan.workers), "--in-front", str(plan.in_front)]
    with (
        scratch_installation(SETTINGS, LOG_LEVEL="WARNING") as environment,
        peer_process(name, arguments, environment) as peer,
    ):
        yield peer


def table(figures: Figures) -> Table:
    plan = figures.plan
    change = (figures.behind_ratio - 1) * 100
    idle = "unknown here" if figures.idle_percent is None else f"{figures.idle_percent:.2f} %"
    each = "; ".join(f"{one.alone:,.0f} and {one.behind:,.0f}" for one in figures.rounds)
    shown = Table(
        title=f"{plan.tasks:,} tasks, {plan.workers} worker(s) of {plan.slots} slots",
        show_header=False,
    )
    shown.add_row("Database", figures.database)
    shown.add_row("Commit policy", figures.commit_policy)
    shown.add_row("Submitted", f"{figures.submit_rate:,.0f} tasks/s")
    shown.add_row("Run, stored and verified", f"{figures.stored_rate:,.0f} tasks/s")
    shown.add_row(
        f"… with {plan.in_front:,} paused and\n{plan.in_front:,} scheduled in front",
        f"{figures.stored_rate_behind:,.0f} tasks/s ({change:+.0f} %)",
    )
    shown.add_row("The two, round by round", each)
    shown.add_row(
        "Pick-up by an idle worker", f"{figures.pickup_p50:.1f} ms, p99 {figures.pickup_p99:.1f} ms"
    )
    shown.add_row("An idle worker", f"{idle} of a core")
    return shown

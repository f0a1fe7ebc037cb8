"""Measures what the queue does on this machine, with the configured kind of database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import SUPPRESS, ArgumentParser
from dataclasses import asdict
from typing import Any

from django.conf import settings
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from batches.management import installation
from batches.management.arguments import whole_number
from batches.management.base import ConsoleCommand
from batches.management.benchmarking import Benchmark, Figures, Plan
from batches.management.scratch import scratch_installation

SETTINGS = "config.benchmark"
"""The shipped settings and a kind that does nothing."""


class Command(ConsoleCommand):
    help = (
        "Measure submitting, running and picking up tasks that do nothing, in a database of its "
        "own that is dropped afterwards. Takes about a minute."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tasks", type=whole_number(100, 10_000_000), default=20_000)
        parser.add_argument("--slots", type=whole_number(1, 1024), default=2)
        parser.add_argument("--workers", type=whole_number(1, 64), default=1)
        parser.add_argument(
            "--in-front",
            type=whole_number(1, 10_000_000),
            default=100_000,
            help="paused tasks, and as many scheduled ones, before the last measurement",
        )
        parser.add_argument("--json", action="store_true", help="print figures for a program")
        parser.add_argument("--inside", action="store_true", help=SUPPRESS)

    def handle(self, *_args: Any, **options: Any) -> None:
        plan = Plan(options["tasks"], options["slots"], options["workers"], options["in_front"])
        if not options["inside"]:
            self.measure_elsewhere(plan, as_json=options["json"])
            return
        figures = measure(plan)
        if options["json"]:
            self.stdout.write(json.dumps(asdict(figures), indent=2))
        else:
            Console().print(table(figures))

    def measure_elsewhere(self, plan: Plan, *, as_json: bool) -> None:
        """Run this command again, in a process whose whole configuration is a scratch one."""
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "benchmark", "--inside"]
        command += ["--tasks", str(plan.tasks), "--slots", str(plan.slots)]
        command += ["--workers", str(plan.workers), "--in-front", str(plan.in_front)]
        command += ["--json"] if as_json else []
        with scratch_installation(SETTINGS) as environment:
            code = subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 (this very command)
        if code:
            raise SystemExit(code)


def measure(plan: Plan) -> Figures:
    os.environ["LOG_LEVEL"] = "WARNING"  # of the workers: they share the terminal with the bars
    columns = TextColumn("{task.description:28}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        bar = progress.add_task("preparing a database", total=1)
        installation.migrate()
        progress.update(bar, completed=1)
        return Benchmark(plan, progress).run()


def table(figures: Figures) -> Table:
    plan = figures.plan
    change = (figures.stored_rate_behind / figures.stored_rate - 1) * 100
    idle = "unknown here" if figures.idle_percent is None else f"{figures.idle_percent:.2f} %"
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
    shown.add_row(
        "Pick-up by an idle worker", f"{figures.pickup_p50:.1f} ms, p99 {figures.pickup_p99:.1f} ms"
    )
    shown.add_row("An idle worker", f"{idle} of a core")
    return shown

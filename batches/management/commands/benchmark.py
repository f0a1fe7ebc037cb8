"""Measures what the queue does on this machine, with the configured kind of database."""

from __future__ import annotations

import json
from argparse import SUPPRESS, ArgumentParser
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from batches.management import installation, rounds
from batches.management.arguments import whole_number
from batches.management.base import ConsoleCommand
from batches.management.benchmarking import Benchmark, Plan


class Command(ConsoleCommand):
    help = (
        "Measure submitting, running and picking up tasks that do nothing, in a database of its "
        "own that is dropped afterwards. Takes about a minute. With --backend celery, the rate "
        "beside that of plain Celery with django-celery-results, round by round."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--backend",
            choices=("database", "celery"),
            default="database",
            help="celery measures at the server of CELERY_BROKER_URL, where nobody else is",
        )
        parser.add_argument(
            "--tasks",
            type=whole_number(100, 10_000_000),
            help="20,000 on the database, 2,000 a round on Celery",
        )
        parser.add_argument(
            "--rounds",
            type=whole_number(1, 100),
            help="of the two that are compared: 3 on the database, 5 on Celery",
        )
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
        measured = self.celery if options["backend"] == "celery" else self.database
        measured(options)

    def database(self, options: dict[str, Any]) -> None:
        tasks = options["tasks"] or 20_000
        pool = options["workers"], options["in_front"], options["rounds"] or 3
        plan = Plan(tasks, options["slots"], *pool)
        if options["inside"]:
            installation.migrate()
            Benchmark(plan).serve()
            return
        with shown_progress() as progress:
            found = rounds.measure(plan, progress)
        self.show(found, rounds.table(found), as_json=options["json"])

    def celery(self, options: dict[str, Any]) -> None:
        # Both need what is installed only where there is a broker.
        if options["inside"]:
            from batches.management import peer_ours  # noqa: PLC0415

            peer_ours.serve()
            return
        from batches.management import peers  # noqa: PLC0415

        tasks, times = options["tasks"] or 2_000, options["rounds"] or 5
        plan = peers.Plan(tasks, times, options["slots"], options["workers"])
        with shown_progress() as progress:
            found = peers.compare(plan, progress)
        self.show(found, peers.table(found), as_json=options["json"])

    def show(self, found: Any, shown: Table, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(asdict(found), indent=2))
        else:
            Console().print(shown)


def shown_progress() -> Progress:
    columns = TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn()
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))

"""``manage.py worker``: claim tasks from the database and run them."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from batches.checks import WORKER
from batches.consumers.poller import Poller, default_slots
from batches.management.base import ConsoleCommand
from batches.models import Queue
from batches.supervision.supervisor import SlotsCannotStart


class Command(ConsoleCommand):
    # Not those of the pages: they take as long as the rest of the start.
    requires_system_checks = (WORKER,)
    help = (
        "Run tasks from the database. SIGTERM finishes what runs and claims nothing more; "
        "a second one hands the running tasks back at once."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--queues", default="", help="Comma-separated; default: all of them.")
        parser.add_argument(
            "--slots",
            type=int,
            default=default_slots(),
            help="Tasks run at once; default: one for each processor (%(default)s).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        queues = frozenset(name.strip() for name in options["queues"].split(",") if name.strip())
        known = set(Queue.objects.values_list("name", flat=True))
        if unknown := queues - known:
            raise CommandError(
                f"--queues: {', '.join(sorted(unknown))}: not among {', '.join(sorted(known))}."
            )
        if options["slots"] < 1:
            raise CommandError("--slots must be at least 1.")
        try:
            Poller(queues, options["slots"]).run()
        except SlotsCannotStart as error:
            raise CommandError(str(error)) from error

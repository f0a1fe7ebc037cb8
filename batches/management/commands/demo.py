"""Submits a small batch of each kind on a sample project, and shows what came of it."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from batches.management import sampling
from batches.management.asking import add_user, asker, facts
from batches.management.base import ConsoleCommand
from batches.management.following import failures, follow
from batches.models import Batch, Worker


class Command(ConsoleCommand):
    help = (
        "Try the console: submit a small batch of each kind on a sample project, which is copied "
        "into the data directory as the workspace demo, and show what came of it. Some of it is "
        "wrong on purpose. Each call submits them anew."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_user(parser)
        parser.add_argument("--no-wait", action="store_true", help="do not show their progress")
        parser.add_argument("--json", action="store_true", help="one JSON object for each batch")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            batches = sampling.submit(asker(options["user"]))
        except sampling.DemoTaken as taken:
            raise CommandError(str(taken)) from taken
        worked_on = Worker.objects.live().exists()
        if not worked_on:
            self.stderr.write("No worker runs, so they wait. Start one: manage.py up")
        for batch in batches:
            if not options["json"]:
                self.stdout.write(f"{batch.kind}: {batch.total} tasks, batch {batch.pk}")
            if worked_on and not options["no_wait"]:
                self._show(batch)
            if options["json"]:
                self.stdout.write(json.dumps(facts(batch.pk)))
        if not options["json"]:
            self._where_next(batches[0])

    def _show(self, batch: Batch) -> None:
        follow(batch.pk, self.stderr, stderr=True)
        for line in failures(batch.pk):
            self.stderr.write(line)

    def _where_next(self, batch: Batch) -> None:
        self.stdout.write(
            "\nAll of a batch's results:  manage.py results ID\n"
            f"Again, and with progress:  manage.py retry {batch.pk}; manage.py watch {batch.pk}\n"
            "In the browser:            Batches and Tasks, under /admin/"
        )

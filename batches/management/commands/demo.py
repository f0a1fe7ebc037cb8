"""Submits a small batch of each kind on a sample project, and shows what came of it."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.template.defaultfilters import pluralize
from django.urls import reverse

from batches.management import installation, sampling
from batches.management.asking import add_user, asker, facts
from batches.management.base import ConsoleCommand, typed
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
            samples, absent = sampling.choose()
            batches = sampling.submit(asker(options["user"]), samples)
        except sampling.DemoTaken as taken:
            raise CommandError(str(taken)) from taken
        worked_on = Worker.objects.live().exists()
        if not worked_on:
            self.stderr.write(f"No worker runs, so they wait. Start one: {typed('up')}")
        for sentence in absent:
            self.stderr.write(sentence)
        for batch in batches:
            if not options["json"]:
                self.stdout.write(
                    f"{batch.kind}: {batch.total} task{pluralize(batch.total)}, batch {batch.pk}"
                )
            if worked_on and not options["no_wait"]:
                self._show(batch)
            if options["json"]:
                self.stdout.write(json.dumps(facts(batch.pk)))
        if batches and not options["json"]:
            self._where_next(batches[0])

    def _show(self, batch: Batch) -> None:
        follow(batch.pk, self.stderr, stderr=True)
        for line in failures(batch.pk):
            self.stderr.write(line)

    def _page(self, batch: Batch) -> str:
        address = installation.running_at(settings.DATA_DIR)
        if address is None:
            return f"{typed('up')}, which says where"
        return address + reverse("admin:batches_batch_change", args=[batch.pk])

    def _where_next(self, batch: Batch) -> None:
        self.stdout.write(
            f"\nSome of it fails on purpose. All results of {batch.kind}:\n"
            f"  {typed(f'results {batch.pk}')}\n"
            "What failed again, with progress:\n"
            f"  {typed(f'retry {batch.pk}')}\n"
            f"  {typed(f'watch {batch.pk}')}\n"
            "In the browser:\n"
            f"  {self._page(batch)}"
        )

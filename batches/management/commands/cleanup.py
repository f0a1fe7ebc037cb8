"""Deletes finished batches that are old enough."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from batches import upkeep
from batches.management.arguments import whole_number
from batches.management.base import ConsoleCommand


class Command(ConsoleCommand):
    help = "Delete batches that finished more than so many days ago, with all they left behind."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--days",
            type=whole_number(0, 36500),
            help="default: RETENTION_DAYS, as the workers do it once an hour",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        days = settings.RETENTION_DAYS if options["days"] is None else options["days"]
        if options["days"] is None and days == 0:
            self.stdout.write("RETENTION_DAYS is 0: everything is kept. --days N overrides it.")
            return
        deleted = 0
        columns = SpinnerColumn(), TextColumn("{task.description}")
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            shown = progress.add_task("Looking for batches …", total=None)
            try:
                for batch in upkeep.cleanup(timedelta(days=days)):
                    if batch is not None:
                        deleted += 1
                        told = f"{deleted} deleted, the last one {batch}"
                        progress.update(shown, description=told)
            except upkeep.CleanupBusy as error:
                raise CommandError(str(error)) from error
        batches = "1 batch" if deleted == 1 else f"{deleted} batches"
        self.stdout.write(f"Deleted {batches} that finished more than {days} days ago.")

"""Shows a batch's progress until it ends."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from batches.management.base import ConsoleCommand
from batches.management.following import failures, follow
from batches.states import BatchStatus


class Command(ConsoleCommand):
    help = "Show a batch's progress until it ends. Exit code 0 when it completed, else 1."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("batch", type=UUID, help="the batch's id, as submit printed it")

    def handle(self, *_args: Any, **options: Any) -> None:
        if follow(options["batch"], self.stdout) != BatchStatus.COMPLETED:
            for line in failures(options["batch"]):
                self.stdout.write(line)
            raise SystemExit(1)

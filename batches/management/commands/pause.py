"""Stops starting the tasks of a batch."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from batches import operations
from batches.management.arguments import beginning_of_id
from batches.management.asking import AskingCommand, asker, batch_of, facts


class Command(AskingCommand):
    help = "Stop starting tasks of a batch; what runs goes on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("batch", type=beginning_of_id, help="its id, or the beginning of it")

    def handle(self, *_args: Any, **options: Any) -> None:
        by = asker(options["user"])
        batch = batch_of(by, options["batch"])
        operations.pause_batch(batch, by=by)
        self.tell(options, f"{batch} is paused; what runs goes on.", facts(batch.pk))

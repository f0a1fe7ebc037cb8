"""Goes on with a paused batch."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from batches import operations
from batches.management.arguments import beginning_of_id
from batches.management.asking import AskingCommand, asker, batch_of, facts


class Command(AskingCommand):
    help = "Go on with a paused batch."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("batch", type=beginning_of_id, help="its id, or the beginning of it")

    def handle(self, *_args: Any, **options: Any) -> None:
        by = asker(options["user"])
        batch = batch_of(by, options["batch"])
        operations.resume_batch(batch, by=by)
        self.tell(options, f"{batch} is no longer paused.", facts(batch.pk))

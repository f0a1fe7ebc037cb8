"""Moves a batch from one backend to the other."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from batches import operations
from batches.management.arguments import beginning_of_id
from batches.management.asking import AskingCommand, asker, batch_of, facts
from batches.states import BackendName


class Command(AskingCommand):
    help = "Let a batch go on on the other backend; what runs is finished where it runs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("batch", type=beginning_of_id, help="its id, or the beginning of it")
        parser.add_argument("backend", choices=BackendName.values)

    def handle(self, *_args: Any, **options: Any) -> None:
        by = asker(options["user"])
        batch = batch_of(by, options["batch"])
        backend = BackendName(options["backend"])
        operations.move_batch(batch, backend, by=by)
        self.tell(options, f"{batch} goes on on the {backend} backend.", facts(batch.pk))

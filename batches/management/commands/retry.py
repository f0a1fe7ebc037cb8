"""Queues tasks of a batch again."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError

from batches import operations
from batches.management.arguments import beginning_of_id
from batches.management.asking import AskingCommand, asker, batch_of, facts
from batches.models import Batch, Task
from batches.states import Failure


class Command(AskingCommand):
    help = "Queue the failed tasks of a batch again; of a cancelled batch, the cancelled ones too."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("batch", type=beginning_of_id, help="its id, or the beginning of it")
        parser.add_argument(
            "--failure",
            action="append",
            default=[],
            choices=Failure.values,
            help="only those that failed for this reason; may be repeated",
        )
        parser.add_argument(
            "--task",
            action="append",
            default=[],
            type=UUID,
            metavar="ID",
            help="only this failed or cancelled task; may be repeated",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        by = asker(options["user"])
        batch = batch_of(by, options["batch"])
        refuse_tasks_of_others(batch, options["task"])
        queued = operations.retry_batch(
            batch, failures=options["failure"], ids=options["task"], by=by
        )
        if not queued:
            raise CommandError(f"{batch} has no such task to retry.")
        noun = "task is" if queued == 1 else "tasks are"
        self.tell(
            options,
            f"{queued:,} {noun} queued again in {batch}.",
            {**facts(batch.pk), "retried": queued},
        )


def refuse_tasks_of_others(batch: Batch, ids: Sequence[UUID]) -> None:
    known = set(Task.objects.filter(batch=batch, pk__in=ids).values_list("pk", flat=True))
    if strange := [str(pk) for pk in ids if pk not in known]:
        raise CommandError(f"--task: {batch} has no task {', '.join(strange)}.")

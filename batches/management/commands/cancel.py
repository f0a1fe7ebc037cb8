"""Cancels a batch, or one task."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError

from batches import operations
from batches.audit import Actor
from batches.management.arguments import Beginning, beginning_of_id
from batches.management.asking import AskingCommand, asker, batch_of, facts, task_of


class Command(AskingCommand):
    help = "Cancel what waits of a batch and stop what runs; or one task of it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "batch", nargs="?", type=beginning_of_id, help="its id, or the beginning of it"
        )
        parser.add_argument("--task", type=UUID, metavar="ID", help="this task only")

    def handle(self, *_args: Any, **options: Any) -> None:
        if (options["batch"] is None) == (options["task"] is None):
            raise CommandError("Name a batch, or a task with --task: one of the two.")
        by = asker(options["user"])
        if options["task"]:
            self.cancel_task(options, by, options["task"])
        else:
            self.cancel_batch(options, by, options["batch"])

    def cancel_batch(self, options: dict[str, Any], by: Actor, beginning: Beginning) -> None:
        batch = batch_of(by, beginning)
        operations.cancel_batch(batch, by=by)
        self.tell(options, f"{batch} is cancelled; what runs is being stopped.", facts(batch.pk))

    def cancel_task(self, options: dict[str, Any], by: Actor, pk: UUID) -> None:
        task = task_of(by, pk)
        operations.cancel_task(task, by=by)
        task.refresh_from_db(fields=["state"])
        self.tell(
            options,
            f"Task {task} is cancelled; if it runs, it is being stopped.",
            {"task": str(task.pk), "batch": str(task.batch_id), "state": task.state},
        )

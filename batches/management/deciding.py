"""What the commands ``apply`` and ``discard`` share: several tasks, each decided on by itself."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import UUID

from django.core.management.base import CommandError

from batches.audit import Actor
from batches.management.asking import AskingCommand, asker, task_of
from batches.models import Batch, Task
from batches.operations import Conflict
from batches.states import DecisionVerb


class DecidingCommand(AskingCommand):
    """A command that decides on the patches of tasks. One that it cannot decide on holds up none
    of the others, and is named at the end."""

    verb: ClassVar[DecisionVerb]

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("tasks", nargs="+", type=UUID, metavar="TASK", help="ids of tasks")

    def decide(self, task: Task, by: Actor) -> Batch | None:
        """Decide on one patch; the batch that carries it out, where that takes one."""
        raise NotImplementedError

    def said(self, task: Task, batch: Batch | None) -> str:
        raise NotImplementedError

    def handle(self, *_args: Any, **options: Any) -> None:
        by = asker(options["user"])
        tasks = [task_of(by, pk) for pk in dict.fromkeys(options["tasks"])]
        refused: list[str] = []
        facts = []
        for task, batch in self._decided(tasks, by, refused):
            facts.append(
                {
                    "task": str(task.pk),
                    "verb": str(self.verb),
                    "batch": str(batch.pk) if batch else None,
                }
            )
            if not options["json"]:
                self.stdout.write(self.said(task, batch))
        if options["json"]:
            self.stdout.write(json.dumps(facts))
        if refused:
            raise CommandError("\n".join(refused))

    def _decided(
        self, tasks: list[Task], by: Actor, refused: list[str]
    ) -> Iterator[tuple[Task, Batch | None]]:
        for task in tasks:
            try:
                batch = self.decide(task, by)
            except Conflict as conflict:
                refused.append(f"Task {task.pk} ({task}): {conflict}")
            else:
                yield task, batch

"""Discards the patches that tasks of agents left."""

from __future__ import annotations

from batches import operations
from batches.audit import Actor
from batches.management.deciding import DecidingCommand
from batches.models import Batch, Task
from batches.states import DecisionVerb


class Command(DecidingCommand):
    help = "Decide that the patches of these tasks are not wanted. They stay where they are kept."
    verb = DecisionVerb.DISCARD

    def decide(self, task: Task, by: Actor) -> Batch | None:
        operations.discard_patch(task, by=by)
        return None

    def said(self, task: Task, batch: Batch | None) -> str:
        return f"The patch of {task} is discarded."

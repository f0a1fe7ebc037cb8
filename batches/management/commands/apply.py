"""Applies the patches that tasks of agents left."""

from __future__ import annotations

from batches import operations
from batches.audit import Actor
from batches.management.deciding import DecidingCommand
from batches.models import Batch, Task
from batches.states import DecisionVerb


class Command(DecidingCommand):
    help = "Put the patches that tasks of agents left into their workspaces."
    verb = DecisionVerb.APPLY

    def decide(self, task: Task, by: Actor) -> Batch:
        return operations.apply_patch(task, by=by)

    def said(self, task: Task, batch: Batch | None) -> str:
        return f"The patch of {task} is being applied by batch {batch.pk if batch else ''}."

"""Keeps the patches of some variants, and discards what the others made of the same items."""

from __future__ import annotations

from batches import operations
from batches.audit import Actor
from batches.management.deciding import DecidingCommand
from batches.models import Batch, Task
from batches.states import DecisionVerb


class Command(DecidingCommand):
    help = "Apply the patches of these tasks, and discard what other variants made of their items."
    verb = DecisionVerb.APPLY

    def decide(self, task: Task, by: Actor) -> Batch | None:
        return operations.keep_patch(task, by=by)

    def said(self, task: Task, batch: Batch | None) -> str:
        how = f"applied by batch {batch.pk}" if batch else "in the workspace already"
        return f"The patch of {task} in variant {task.variant} is kept: {how}."

"""Deciding on the patches that tasks left."""

from __future__ import annotations

from contextlib import suppress

from django.db import transaction

from batches import audit, review
from batches.audit import Actor
from batches.models import Batch, Task
from batches.operations.submitting import submit
from batches.queue.wishes import Conflict
from batches.states import DecisionVerb


def apply_patch(task: Task, *, by: Actor) -> Batch:
    """Put the patch that a task left into its workspace: the batch of one task that does it.

    Raises:
        Conflict: there is nothing to apply, or it was decided already.
        InvalidSubmission: whoever asks may not use the workspace.
    """

    def decided(batch: Batch) -> None:
        review.decide(task, DecisionVerb.APPLY, by.user, Task.objects.get(batch=batch))
        audit.record(by, task, "Let its patch be applied")

    return submit(by.user, review.application(task), by=by, also=decided)


def keep_patch(task: Task, *, by: Actor) -> Batch | None:
    """Of the variants of an item keep this one's patch: apply it, and discard the others'.

    None where its task has applied it by itself already.

    Raises:
        Conflict: there is nothing to apply, or it was decided already; nothing was discarded.
        InvalidSubmission: whoever asks may not use the workspace.
    """
    batch = None if review.is_in_place(task) else apply_patch(task, by=by)
    for other in review.rivals(task):
        with suppress(Conflict):  # somebody decided on it just now
            discard_patch(other, by=by)
    return batch


def discard_patch(task: Task, *, by: Actor) -> None:
    """Decide that the patch that a task left is not wanted; it stays where it is kept.

    Raises:
        Conflict: there is no patch, or it was decided already.
    """
    with transaction.atomic():
        review.decide(task, DecisionVerb.DISCARD, by.user)
        audit.record(by, task, "Discarded its patch")

"""What a submission need not do again: its items that succeeded in an earlier batch."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib.auth.models import User

from batches.models import Batch, Task
from batches.states import BatchState, TaskState
from batches.submission import FieldError, InvalidSubmission, Submission

LONGEST_CHAIN = 100
"""Batches that resume one another, of which the successes are looked up."""

Succeeded = dict[tuple[str, str], UUID]
"""Custom id and variant → the task that succeeded."""


def succeeded(owner: User, submission: Submission, workspace_id: UUID | None) -> Succeeded:
    """What succeeded in the resumed batch, or in one that it resumed itself.

    Raises:
        InvalidSubmission: it cannot be resumed; names ``resume``.
    """
    if submission.resume is None:
        return {}
    visible = Batch.objects.visible_to(owner)
    batch = visible.filter(pk=submission.resume).first()
    if problem := _problem(batch, submission, workspace_id):
        raise InvalidSubmission([FieldError("resume", problem)])
    found: Succeeded = {}
    for _ in range(LONGEST_CHAIN):
        rows = Task.objects.filter(batch=batch, state=TaskState.SUCCEEDED).order_by()
        for custom_id, variant, task in rows.values_list("custom_id", "variant", "pk").iterator():
            found.setdefault((custom_id, variant), task)
        batch = visible.filter(pk=batch.resumes).first() if batch and batch.resumes else None
        if batch is None:
            break
    return found


def _problem(batch: Any, submission: Submission, workspace_id: UUID | None) -> str:
    if batch is None:
        return f"There is no batch {submission.resume} that you may see."
    if batch.kind != submission.kind:
        return f"Its tasks are of kind {batch.kind}."
    if batch.workspace_id != workspace_id:
        return "It worked in another workspace."
    if batch.state != BatchState.DONE:
        return "It is not finished: wait for it, or cancel it."
    return ""

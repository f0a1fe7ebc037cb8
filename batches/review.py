"""Deciding on the patch of an agent's task: each is applied or discarded once."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from agents.contract import JSON
from batches.models import Batch, Decision, Task
from batches.predecessors import patch_of, patches_before
from batches.queue.wishes import Conflict
from batches.registry import InputMissing
from batches.states import FINISHED, DecisionVerb, TaskState
from batches.submission import Item, Submission

KIND = "apply"
IN_PLACE = {"applied", "already"}
"""What a result says of a patch that is in the workspace."""


def application(task: Task) -> Submission:
    """The batch of one task that puts a task's patch into its workspace.

    Raises:
        Conflict: there is nothing to apply, or it was decided already.
    """
    _check(task)
    try:
        patch, start = patch_of(task), patches_before(task.pk)
    except InputMissing as error:
        raise Conflict(str(error)) from None
    workspace = task.batch.workspace
    if patch is None or workspace is None:
        raise Conflict("The task left no patch.")
    name = f"Apply {task.custom_id} of {task.batch}"
    return Submission(
        kind=KIND,
        items=[Item({**patch, "start": start})],
        name=name[:200],
        workspace=workspace.name,
    )


def inputs(task: UUID) -> JSON:
    """``context.inputs`` of a task that applies a patch: nothing, if that is still wanted.

    Raises:
        InputMissing: the patch was discarded since, is applied by another task, or is not the one
            that the agent's task has now.
    """
    wanted = Decision.objects.filter(
        applying=task, verb=DecisionVerb.APPLY, attempt=F("task__attempt")
    )
    if not wanted.exists():
        raise InputMissing("The patch is not to be applied by this task any more.")
    return {}


def decide(task: Task, verb: DecisionVerb, by: User, applying: Task | None = None) -> None:
    """Write down what a person decided, in the caller's transaction.

    Raises:
        Conflict: there is nothing to decide, or somebody was first.
    """
    with transaction.atomic():
        # Of two that decide at once, the second finds what the first has decided.
        row = Task.objects.select_for_update(of=("self",), no_key=True).get(pk=task.pk)
        _check(row)
        Decision.objects.update_or_create(
            task=row,
            defaults={"attempt": row.attempt, "verb": verb, "by": by, "applying": applying},
        )


def last_decision(task: Task) -> Decision | None:
    """What was decided on the patch that a task has now; None where it has run again since."""
    decision: Decision | None = getattr(task, "decision", None)
    return decision if decision and decision.attempt == task.attempt else None


def binding_decision(task: Task) -> Decision | None:
    """The same, but for a patch that could not be applied: a person may decide again then."""
    decision = last_decision(task)
    if decision is None or decision.applying is None:
        return decision
    failed = decision.applying.state in {TaskState.FAILED, TaskState.CANCELLED}
    return None if failed else decision


def waiting_for_review() -> QuerySet[Any]:
    """The ids of finished tasks whose patch was meant for review, or did not fit, and on which
    nobody has decided."""
    decided = Decision.objects.filter(task=OuterRef("pk"), attempt=OuterRef("attempt"))
    undone = Q(applying__state__in=(TaskState.FAILED, TaskState.CANCELLED))
    # By its batches: there are few, and their index holds the states.
    found = Task.objects.filter(
        batch__in=Batch.objects.filter(kind="agent").values("pk"),
        state__in=(TaskState.SUCCEEDED, TaskState.FAILED),
        result__applied__in=("pending", "conflict"),
    )
    return found.exclude(Exists(decided.exclude(undone))).order_by().values("pk")


def rivals(task: Task) -> list[Task]:
    """What the other variants made of the same item, as far as it is undecided."""
    same = Task.objects.filter(batch=task.batch_id, custom_id=task.custom_id)
    others = same.exclude(pk=task.pk).select_related("decision__applying")
    return [other for other in others.order_by("variant") if is_open(other)]


def is_in_place(task: Task) -> bool:
    """Did the task itself put its patch into the workspace?"""
    return (task.result or {}).get("applied") in IN_PLACE


def is_open(task: Task) -> bool:
    """Is there a patch that a person may decide on?"""
    try:
        _check(task)
    except Conflict:
        return False
    return True


def _check(task: Task) -> None:
    """
    Raises:
        Conflict: the task left no patch that could be decided on.
    """
    result: JSON = task.result or {}
    if task.state not in FINISHED:
        raise Conflict(f"The task is {task.state}: it has no patch yet.")
    if not result.get("patch"):
        raise Conflict("The task left no patch.")
    if is_in_place(task):
        raise Conflict("The patch is in the workspace already.")
    if decision := binding_decision(task):
        done = "discarded" if decision.verb == DecisionVerb.DISCARD else "applied"
        raise Conflict(f"It was decided already: the patch is {done}.")

"""What a task begins from: the patches of those that it comes after."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import TopologicalSorter
from uuid import UUID

from django.core.files.storage import default_storage

from agents.contract import JSON
from batches.models import Artefact, Task
from batches.queue.dependencies import all_before
from batches.registry import InputMissing

PATCH = "changes.patch"
"""The artefact that an agent's attempt keeps its patch in."""


def inputs(task: UUID) -> JSON:
    """``context.inputs`` of an agent: the patches of all its predecessors.

    Raises:
        InputMissing: a predecessor's patch cannot be read.
    """
    return {"start": patches_before(task)}


def patches_before(task: UUID) -> list[JSON]:
    """``{"task", "base_commit", "patch"}`` of every predecessor, however far, that changed
    anything; each before those that come after it.

    Raises:
        InputMissing: one of them cannot be read.
    """
    links = all_before(task)
    found = Task.objects.filter(pk__in={before for _, before in links})
    rows = {row.pk: row for row in found.order_by("batch__number", "position", "variant")}
    sorter: TopologicalSorter[UUID] = TopologicalSorter({pk: [] for pk in rows})
    for after, before in links:
        if after != task:
            sorter.add(after, before)
    return [patch for pk in _in_order(sorter, list(rows)) if (patch := patch_of(rows[pk]))]


def _in_order(sorter: TopologicalSorter[UUID], submitted: list[UUID]) -> Iterator[UUID]:
    """Those without predecessors, then those that come after them, and so on; in the order of
    submission where that says nothing, so that a task always begins from the same."""
    sorter.prepare()
    while ready := sorter.get_ready():
        yield from sorted(ready, key=submitted.index)
        sorter.done(*ready)


def patch_of(task: Task) -> JSON | None:
    """``{"task", "base_commit", "patch"}`` of a finished task; None where it changed nothing.

    Raises:
        InputMissing: it cannot be read.
    """
    result: JSON = task.result or {}
    if "base_commit" not in result and "artefact" in result:
        raise InputMissing(f"The result of {task.custom_id} is too large to begin from.")
    if not result.get("patch"):
        return None
    kept = Artefact.objects.filter(task=task, attempt=task.attempt, name=PATCH).first()
    if kept is None:
        raise InputMissing(f"The patch of {task.custom_id} is not kept any more.")
    try:
        with default_storage.open(str(kept.file.name), "rb") as file:
            text = file.read().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputMissing(f"The patch of {task.custom_id} cannot be read: {error}") from error
    return {"task": str(task.pk), "base_commit": result["base_commit"], "patch": text}

"""Priorities of tasks: their own, or as they follow their batch's or their queue's."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from django.db import transaction

from batches.lanes import HIGHEST
from batches.models import Batch, Queue, Share
from batches.queue import sql
from batches.queue.wishes import Also, Conflict, locked, nothing
from batches.states import BatchState, PriorityFrom

_LANE = f"({HIGHEST} - %s) * {1 << 52} + (lane {sql.NUMBER_OF_LANE})"


def set_batch_priority(batch: UUID, priority: int | None, also: Also = nothing) -> None:
    """Change a batch's priority and that of the waiting tasks that inherited it.

    None: the queue's.
    """
    with locked(batch) as row:
        Batch.objects.filter(pk=row.pk).update(priority=priority)
        also()
    inherit(batch)


def set_queue_priority(queue: str, priority: int, also: Also = nothing) -> None:
    """Change a queue's priority and that of the waiting tasks that inherited it."""
    with transaction.atomic():
        Queue.objects.filter(pk=queue).update(priority=priority)
        also()
    # All of them, whatever their priority is said to be before the lock: and what the rows get is
    # what is true under it, so that a change which is overtaken by another does no harm.
    open_batches = Batch.objects.filter(shares__queue=queue, state=BatchState.OPEN)
    for batch in list(open_batches.order_by("number").values_list("pk", flat=True)):
        inherit(batch)


def set_task_priority(task: UUID, priority: int) -> None:
    """Give one waiting task a priority of its own."""
    changed = sql.change(
        f"UPDATE {sql.TASK} SET priority = %s, priority_from = 'item', lane = {_LANE} "
        "WHERE id = %s AND state IN ('queued', 'running')",
        [priority, priority, sql.one_id(task)],
    )
    if not changed:
        raise Conflict("The task is finished.")


def inherit(batch: UUID) -> None:
    """Give the waiting tasks that have no priority of their own their batch's, or its queue's.

    In chunks, each with what is true under its lock; a batch that is gone has no tasks either.
    """
    with suppress(Batch.DoesNotExist):
        while True:
            with locked(batch) as row:
                changed = inherit_some(row)
            if changed < sql.CHUNK:
                return


def inherit_some(batch: Batch) -> int:
    """A chunk of each of its queues, with the batch locked; returns how many rows were changed."""
    if batch.priority is not None:
        return _give(batch, batch.priority, PriorityFrom.BATCH)
    own = Share.objects.filter(batch=batch).order_by("number")
    shares = own.values_list("number", "queue__priority")
    return sum(_give(batch, priority, PriorityFrom.QUEUE, number) for number, priority in shares)


def _give(batch: Batch, priority: int, source: PriorityFrom, share: int | None = None) -> int:
    """Rows in the order of their ids: settles of the batch lock them so too."""
    within, parameters = "", [sql.one_id(batch.pk), priority, source]
    if share is not None:
        within = f"AND t.lane {sql.NUMBER_OF_LANE} = %s "
        parameters.append(share)
    chosen = (
        f"SELECT t.id FROM {sql.TASK} t WHERE t.batch_id = %s AND t.state IN ('queued', 'running') "
        f"AND t.priority_from <> 'item' AND (t.priority <> %s OR t.priority_from <> %s) {within}"
        f"ORDER BY t.id LIMIT {sql.CHUNK}{sql.locked('FOR UPDATE')}"
    )
    return sql.change(
        f"UPDATE {sql.TASK} SET priority = %s, priority_from = %s, lane = {_LANE} "
        f"WHERE {sql.picked(chosen)}",
        [priority, source, priority, *parameters],
    )

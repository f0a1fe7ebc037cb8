"""What follows the end of tasks: dependents, stopping on failure, closing the batch.

Runs after the settling commit, so that two last tasks that settle together cannot each overlook
the other. Every step may be repeated; upkeep does, for a process that died in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db import transaction

from batches.queue import sql
from batches.queue.dependencies import (
    recompute_after,
    recompute_dependents,
    recompute_followers,
    waits,
)
from batches.queue.verdicts import Settled
from batches.states import TaskState


def follow_up(settled: Sequence[Settled]) -> None:
    """Everything that the end of these tasks sets going."""
    ended = [item for item in settled if item.state != TaskState.QUEUED]
    # Whoever ends one that still waits looks for itself; should that come to pass while the settle
    # that saw it waiting commits, upkeep closes the batch.
    batches = {item.batch_id for item in ended if item.stops_batch or not item.others_wait}
    if parents := [item.lease.task_id for item in ended if item.has_dependents]:
        batches |= recompute_dependents(parents)
    for batch in {item.batch_id for item in ended if item.stops_batch}:
        cancel_queued(batch)
    close_finished(batches)


def close_finished(batches: Iterable[UUID]) -> None:
    """Close those of the batches that have no unfinished task, and free what comes after them."""
    pending = set(batches)
    while pending:
        batch = pending.pop()
        if not _has_unfinished(batch) and close_batch(batch):
            pending |= recompute_followers(batch)


def _has_unfinished(batch: UUID) -> bool:
    [(found,)] = sql.prepared(
        f"SELECT {sql.has('queued', '%s')} OR {sql.has('running', '%s')}",
        [sql.one_id(batch), sql.one_id(batch)],
    )
    return bool(found)


def close_batch(batch: UUID) -> bool:
    """Mark a batch done and store its final counts; False while a task of it is unfinished.

    Locks the batch first and counts in a later statement: a count in the statement that waited
    for the lock has a snapshot from before, and would not see a retry that committed meanwhile.
    """
    with transaction.atomic():
        locked = sql.rows(
            f"SELECT b.id FROM {sql.BATCH} b WHERE b.id = %s AND b.state = 'open' "
            f"AND b.sealed_at IS NOT NULL{sql.locked('FOR NO KEY UPDATE')}",
            [sql.one_id(batch)],
        )
        if not locked:
            return False
        counts = sql.rows(
            f"SELECT t.state, t.failure, count(*) FROM {sql.TASK} t WHERE t.batch_id = %s "
            "GROUP BY t.state, t.failure",
            [sql.one_id(batch)],
        )
        if any(state in {TaskState.QUEUED, TaskState.RUNNING} for state, _, _ in counts):
            return False
        changed = sql.change(
            f"UPDATE {sql.BATCH} SET state = 'done', finished_at = {sql.now()}, summary = %s "
            "WHERE id = %s AND state = 'open'",
            [json.dumps(_summary(counts)), sql.one_id(batch)],
        )
        return changed == 1


def _summary(counts: Iterable[tuple[str, str, int]]) -> dict[str, object]:
    """``{"succeeded": n, "failed": n, "cancelled": n, "failures": {reason: n}}``"""
    states = {"succeeded": 0, "failed": 0, "cancelled": 0}
    failures: dict[str, int] = {}
    for state, failure, number in counts:
        states[state] += number
        if failure:
            failures[failure] = failures.get(failure, 0) + number
    return {**states, "failures": failures}


def cancel_queued(batch: UUID) -> int:
    """Cancel what waits in a batch, in chunks; returns how many tasks."""
    chosen = (
        f"SELECT t.id FROM {sql.TASK} t WHERE t.batch_id = %s AND t.state = 'queued' "
        f"ORDER BY t.id LIMIT {sql.CHUNK}{sql.locked('FOR UPDATE')}"
    )
    total = 0
    while True:
        with transaction.atomic():
            sql.lock_batches("b.id = %s", [sql.one_id(batch)])
            changed = sql.change(
                f"""
                UPDATE {sql.TASK} SET state = 'cancelled', finished_at = {sql.now()},
                    run_after = NULL, waiting_for = '', dispatched_at = NULL
                WHERE {sql.picked(chosen)} AND state = 'queued'
                """,
                [sql.one_id(batch)],
            )
        total += changed
        if changed < sql.CHUNK:
            return total


def unfinished_business() -> None:
    """Repeat what a process that died after its commit may have left undone.

    Costs a few index probes for each open batch.
    """
    for batch in _ids(_TO_SWEEP):
        cancel_queued(batch)
    close_finished(_ids(_TO_CLOSE))
    close_finished([batch for batch in _ids(_FOLLOWERS) if recompute_after(batch)])


def overlooked_dependents() -> None:
    """The same for tasks whose predecessors ended. Costs a look at each task that waits so."""
    if overlooked := _ids(_OVERLOOKED):
        close_finished(recompute_dependents(overlooked))


def _ids(query: str) -> list[UUID]:
    return [sql.as_uuid(row[0]) for row in sql.rows(query)]


_TO_SWEEP = f"""
    SELECT b.id FROM {sql.BATCH} b WHERE b.state = 'open' AND b.sealed_at IS NOT NULL AND (
        b.cancel_requested_at IS NOT NULL OR (b.on_failure = 'stop' AND EXISTS (
            SELECT 1 FROM {sql.TASK} f WHERE f.batch_id = b.id AND f.state = 'failed'
              AND f.failure <> 'dependency'
              AND (b.retried_at IS NULL OR f.finished_at > b.retried_at))))
      AND {sql.has("queued", "b.id")}
"""

_OVERLOOKED = f"""
    WITH waiting AS (
        SELECT t.id FROM {sql.TASK} t JOIN {sql.BATCH} b ON b.id = t.batch_id
        WHERE b.state = 'open' AND t.state = 'queued' AND t.unmet_dependencies > 0
    ), overlooked AS (
        SELECT (SELECT d.predecessor_id FROM batches_dependency d
                JOIN {sql.TASK} p ON p.id = d.predecessor_id
                WHERE d.task_id = waiting.id AND p.state IN ('failed', 'cancelled') LIMIT 1) AS id
        FROM waiting
        UNION
        SELECT (SELECT d.predecessor_id FROM batches_dependency d WHERE d.task_id = waiting.id
                ORDER BY d.predecessor_id DESC LIMIT 1)
        FROM waiting WHERE NOT ({waits("waiting.id")})
    )
    SELECT id FROM overlooked WHERE id IS NOT NULL LIMIT {sql.CHUNK}
"""

_TO_CLOSE = f"""
    SELECT b.id FROM {sql.BATCH} b
    WHERE b.state = 'open' AND b.sealed_at IS NOT NULL
      AND NOT {sql.has("queued", "b.id")} AND NOT {sql.has("running", "b.id")}
"""

_FOLLOWERS = f"""
    SELECT DISTINCT b.id FROM {sql.BATCH} b
    JOIN {sql.BATCH}_after a ON a.from_batch_id = b.id
    JOIN {sql.BATCH} p ON p.id = a.to_batch_id
    WHERE b.state = 'open' AND b.sealed_at IS NOT NULL AND b.unmet_after > 0
      AND p.state = 'done'
"""

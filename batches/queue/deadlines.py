"""What a batch's deadline does to the tasks that still wait."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from batches.queue import sql
from batches.queue.claim import Lease
from batches.queue.verdicts import Settled
from batches.states import Failure, TaskState


def fail_late(batch: UUID) -> list[Settled]:
    """Fail what still waits in a batch whose deadline has passed, one chunk of it."""
    chosen = (
        f"SELECT t.id FROM {sql.TASK} t WHERE t.batch_id = %s AND t.state = 'queued' "
        f"ORDER BY t.id LIMIT {sql.CHUNK}{sql.locked('FOR UPDATE')}"
    )
    with transaction.atomic():
        sql.lock_batches("b.id = %s", [sql.one_id(batch)])
        found = sql.rows(
            f"""
            UPDATE {sql.TASK} SET state = 'failed', failure = %s, finished_at = {sql.now()},
                run_after = NULL, waiting_for = '', dispatched_at = NULL,
                error = 'The deadline of the batch passed before it could run.'
            WHERE {sql.picked(chosen)} AND state = 'queued'
            RETURNING id, attempt, has_dependents
            """,
            [Failure.TIMEOUT, sql.one_id(batch)],
        )
    return [
        Settled(
            lease=Lease(sql.as_uuid(task_id), attempt),
            batch_id=batch,
            state=TaskState.FAILED,
            failure=Failure.TIMEOUT,
            error="",
            delay=None,
            has_dependents=bool(has_dependents),
            stops_batch=False,
            others_wait=False,
        )
        for task_id, attempt, has_dependents in found
    ]

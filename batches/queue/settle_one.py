"""The settle of one task in one statement: a Celery worker settles each with its own message.

It writes what ``batches.queue.settle`` writes, under the same fence: only while the row is running
under the very attempt that the answer belongs to.
"""

from __future__ import annotations

import json

from batches.queue import sql
from batches.queue.verdicts import Also, Settled, Verdict, answered
from batches.states import OnFailure, TaskState


def possible(verdict: Verdict) -> bool:
    """Where the answer alone decides, so that nothing need be read before, and it has no files."""
    return sql.is_postgres() and answered(verdict.outcome) is not None and not verdict.files


def settle(verdict: Verdict, also: Also | None) -> list[Settled]:
    """Write the verdict, the attempt and what else belongs to it; empty if its lease is lost."""
    answer = answered(verdict.outcome)
    if answer is None:
        raise ValueError(f"{verdict.outcome} is no answer: what becomes of it is in the row")
    state, failure = answer
    beside, more = (also and also.insert(verdict, state, failure)) or ("", [])
    found = sql.prepared(
        f"{_COUNTED}{f', beside AS ({beside})' if beside else ''}{_TOLD}",
        [
            state,
            failure,
            verdict.error,
            None if verdict.result is None else json.dumps(verdict.result),
            verdict.lease.task_id,
            verdict.lease.attempt,
            verdict.outcome,
            verdict.error,
            verdict.sandbox,
            verdict.seconds,
            *more,
        ],
    )
    return [
        Settled(
            lease=verdict.lease,
            batch_id=batch,
            state=state,
            failure=failure,
            error=verdict.error,
            delay=None,
            has_dependents=has_dependents,
            stops_batch=state == TaskState.FAILED and on_failure == OnFailure.STOP,
            others_wait=others_wait,
        )
        for batch, has_dependents, on_failure, others_wait in found
    ]


_COUNTED = f"""
    WITH counted AS (
        UPDATE {sql.TASK} t SET
            state = %s, failure = %s, waiting_for = '', run_after = NULL, leased_until = NULL,
            dispatched_at = NULL, error = %s, result = %s::jsonb, finished_at = clock_timestamp()
        WHERE t.id = %s AND t.attempt = %s AND t.state = 'running'
        RETURNING t.id, t.attempt, t.worker, t.batch_id, t.has_dependents
    ), ended AS (
        INSERT INTO {sql.ATTEMPT}
            (task_id, number, worker, outcome, error, sandbox, started_at, finished_at)
        SELECT id, attempt, worker, %s, %s, %s,
               clock_timestamp() - %s * interval '1 second', clock_timestamp()
        FROM counted
    )"""

_TOLD = f"""
    SELECT b.id, counted.has_dependents, b.on_failure,
           (SELECT w.position FROM {sql.TASK} w WHERE w.batch_id = b.id AND w.state = 'queued'
            AND w.dispatched_at IS NULL ORDER BY w.position DESC LIMIT 1) IS NOT NULL
    FROM counted JOIN {sql.BATCH} b ON b.id = counted.batch_id
"""

"""The end of an attempt: settled by its supervisor, or reaped when its lease ran out.

Fenced: an answer counts only while the row is running under the very attempt it belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from batches.models import Artefact
from batches.queue import settle_one, sql
from batches.queue.claim import Lease
from batches.queue.resources import mark_away
from batches.queue.verdicts import Also, Ending, Settled, Standing, Verdict, decide
from batches.states import AttemptOutcome, OnFailure, TaskState


@dataclass(frozen=True, slots=True)
class _Row:
    id: Any
    attempt: int
    batch_id: UUID
    kind: str
    worker: str
    has_dependents: bool
    stops: bool
    standing: Standing


def settle(verdicts: Sequence[Verdict], also: Also | None = None) -> list[Settled]:
    """Write the verdicts whose lease still holds, in one transaction; the others are void.

    Each writes the task's row and an attempt's row, and what was found away. The follow-ups
    (dependents, closing) belong after the commit: see ``batches.queue.closing``.
    """
    if not verdicts:
        return []
    if len(verdicts) == 1 and settle_one.possible(verdicts[0]):
        return settle_one.settle(verdicts[0], also)
    # By lease: answers of two attempts of one task may come together, and one of them counts.
    by_lease = {verdict.lease: verdict for verdict in verdicts}
    with transaction.atomic():
        rows = _running({lease.task_id for lease in by_lease})
        counted = [
            (row, verdict, decide(row.standing, verdict))
            for task_id, row in rows.items()
            if (verdict := by_lease.get(Lease(task_id, row.attempt))) is not None
        ]
        if not counted:
            return []
        _write(counted)
        _keep_files(verdict for _, verdict, _ in counted)
        _note_what_is_away(counted)
        settled = [_settled(*one) for one in counted]
        if also is not None:
            also.write(
                [(verdict, end) for (_, verdict, _), end in zip(counted, settled, strict=True)]
            )
    return settled


def _settled(row: _Row, verdict: Verdict, ending: Ending) -> Settled:
    return Settled(
        lease=verdict.lease,
        batch_id=row.batch_id,
        state=ending.state,
        failure=ending.failure,
        error=verdict.error,
        delay=ending.delay,
        has_dependents=row.has_dependents,
        stops_batch=row.stops and ending.state == TaskState.FAILED,
        others_wait=False,
    )


def _running(verdicts: Iterable[UUID]) -> dict[UUID, _Row]:
    """Lock and read the rows. In the order of their ids, as every writer of many rows does."""
    found = sql.rows(
        f"""
        SELECT t.id, t.attempt, t.batch_id, t.kind, t.worker, t.has_dependents, b.on_failure,
               t.failures, t.max_attempts, t.replay_safe AND t.effect_at IS NULL,
               t.cancel_requested_at IS NOT NULL OR b.cancel_requested_at IS NOT NULL,
               b.deadline IS NOT NULL AND b.deadline <= {sql.now()}
        FROM {sql.TASK} t JOIN {sql.BATCH} b ON b.id = t.batch_id
        WHERE {sql.in_ids("t.id")} AND t.state = 'running'
        ORDER BY t.id{sql.locked("FOR UPDATE OF t")}
        """,
        [sql.ids(verdicts)],
    )
    return {
        sql.as_uuid(row[0]): _Row(
            id=row[0],
            attempt=row[1],
            batch_id=sql.as_uuid(row[2]),
            kind=row[3],
            worker=row[4],
            has_dependents=bool(row[5]),
            stops=row[6] == OnFailure.STOP,
            standing=Standing(row[7], row[8], bool(row[9]), bool(row[10]), bool(row[11])),
        )
        for row in found
    }


def _write(counted: list[tuple[_Row, Verdict, Ending]]) -> None:
    changed = _write_postgres(counted) if sql.is_postgres() else _write_sqlite(counted)
    if changed != len(counted):
        # The rows were locked when they were read: this cannot be, unless the lock is broken.
        raise RuntimeError(f"{changed} of {len(counted)} locked rows could be settled")


def _write_postgres(counted: list[tuple[_Row, Verdict, Ending]]) -> int:
    """One statement with one JSON parameter: six array parameters cost three times as much."""
    values = json.dumps(
        [
            {
                "id": str(row.id),
                "a": row.attempt,
                "s": ending.state,
                "f": ending.failure,
                "n": ending.failures,
                "d": ending.delay,
                "w": ending.waiting_for,
                "e": verdict.error,
                "r": verdict.result,
                "o": verdict.outcome,
                "t": verdict.seconds,
                "b": verdict.sandbox,
                "k": row.worker,
            }
            for row, verdict, ending in counted
        ]
    )
    return sql.change(
        f"""
        WITH i AS MATERIALIZED (
            SELECT * FROM json_to_recordset(%s) AS x(
                id uuid, a int, s text, f text, n int, d float8, w text, e text, r jsonb,
                o text, t float8, b text, k text)
        ), u AS (
            UPDATE {sql.TASK} t SET
                state = i.s, failure = i.f, failures = i.n, waiting_for = i.w,
                run_after = {sql.later("i.d")}, leased_until = NULL, dispatched_at = NULL,
                error = i.e, result = i.r,
                finished_at = CASE WHEN i.s <> 'queued' THEN clock_timestamp() END
            FROM i WHERE t.id = i.id AND t.attempt = i.a AND t.state = 'running'
            RETURNING t.id
        )
        INSERT INTO {sql.ATTEMPT}
            (task_id, number, worker, outcome, error, sandbox, started_at, finished_at)
        SELECT i.id, i.a, i.k, i.o, i.e, i.b,
               clock_timestamp() - i.t * interval '1 second', clock_timestamp()
        FROM i JOIN u ON u.id = i.id
        """,
        [values],
    )


def _write_sqlite(counted: list[tuple[_Row, Verdict, Ending]]) -> int:
    tasks = [
        (
            ending.state,
            ending.failure,
            ending.failures,
            ending.waiting_for,
            ending.delay,
            verdict.error,
            None if verdict.result is None else json.dumps(verdict.result),
            ending.state,
            row.id,
            row.attempt,
        )
        for row, verdict, ending in counted
    ]
    attempts = [
        (
            row.id,
            row.attempt,
            row.worker,
            verdict.outcome,
            verdict.error,
            verdict.sandbox,
            -verdict.seconds,
        )
        for row, verdict, ending in counted
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            f"""
            UPDATE {sql.TASK} SET
                state = %s, failure = %s, failures = %s, waiting_for = %s,
                run_after = {sql.later("%s")}, leased_until = NULL, dispatched_at = NULL,
                error = %s, result = %s,
                finished_at = CASE WHEN %s <> 'queued' THEN {sql.now()} END
            WHERE id = %s AND attempt = %s AND state = 'running'
            """,
            tasks,
        )
        changed: int = cursor.rowcount
        cursor.executemany(
            f"""
            INSERT INTO {sql.ATTEMPT}
                (task_id, number, worker, outcome, error, sandbox, started_at, finished_at)
            VALUES (%s, %s, %s, %s, %s, %s, {sql.later("%s")}, {sql.now()})
            """,
            attempts,
        )
    return changed


def _note_what_is_away(counted: list[tuple[_Row, Verdict, Ending]]) -> None:
    """Together with the rows that wait for it: for what is not away nobody waits for long.

    In the order of the names, as every other writer of several resources would have to.
    """
    away = {
        ending.waiting_for: (row.kind, verdict.error)
        for row, verdict, ending in counted
        if ending.waiting_for
    }
    for name, (kind, reason) in sorted(away.items()):
        mark_away(name, kind, reason)


def _keep_files(verdicts: Iterable[Verdict]) -> None:
    Artefact.objects.bulk_create(
        Artefact(
            task_id=verdict.lease.task_id,
            attempt=verdict.lease.attempt,
            name=file.name,
            media_type=file.media_type,
            file=file.path,
            size=file.size,
        )
        for verdict in verdicts
        for file in verdict.files
    )


def reap(limit: int = 500) -> list[Settled]:
    """End attempts whose lease is over. Any process may do it, any number at once."""
    ran = (
        f"extract(epoch from {sql.now()} - t.started_at)"
        if sql.is_postgres()
        else "(julianday('now') - julianday(t.started_at)) * 86400.0"
    )
    expired_ones = (
        f"SELECT t.id, t.attempt, t.worker, {ran} FROM {sql.TASK} t "
        f"WHERE t.state = 'running' AND t.leased_until < {sql.moment()} "
        "ORDER BY t.leased_until LIMIT %s"
    )
    if not sql.rows(expired_ones, [1]):
        return []  # without a transaction, which on SQLite would keep writers waiting
    with transaction.atomic():
        expired = sql.rows(expired_ones + sql.locked("FOR UPDATE SKIP LOCKED"), [limit])
        return settle(
            [
                Verdict(
                    Lease(sql.as_uuid(task_id), attempt),
                    AttemptOutcome.LOST,
                    error=f"Worker {worker} was not heard of until the lease ran out.",
                    seconds=float(seconds or 0.0),
                    interrupted=True,
                )
                for task_id, attempt, worker, seconds in expired
            ]
        )

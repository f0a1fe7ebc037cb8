"""Celery's own record of a task, the ``TaskResult``: a mirror of the row, written with it.

Celery would write it in six queries of its own, and could overwrite the result of the attempt that
counted with that of one whose lease was lost. So its tasks ignore their results, and whoever writes
the row writes this too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.utils import timezone

from agents.contract import JSON
from batches import registry
from batches.celery_words import celery_status
from batches.queue import sql

CHUNK = 500


class TaskFailed(Exception):
    """What ``AsyncResult.get`` raises of a task that did not succeed: why, and in words."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is to be said of one task."""

    task_id: UUID
    kind: str
    status: str
    worker: str
    started_at: datetime | None
    result: JSON | None = None
    failure: str = ""
    error: str = ""


def write(records: Iterable[Record]) -> None:
    """Insert or update them, in one statement for each five hundred."""
    from django_celery_results.models import TaskResult  # noqa: PLC0415 - only with a broker

    kinds = registry.kinds()
    now = timezone.now()
    rows = [
        TaskResult(
            task_id=str(record.task_id),
            task_name=kinds[record.kind].task,
            task_args=json.dumps(repr((str(record.task_id),))),
            task_kwargs=json.dumps("{}"),
            status=record.status,
            worker=record.worker[:100],
            content_type="application/json",
            content_encoding="utf-8",
            result=_result(record),
            date_created=now,
            date_started=record.started_at,
            date_done=now,
            traceback=record.error or None,
            meta=json.dumps({"children": []}),
        )
        for record in records
    ]
    changing = ["status", "worker", "result", "date_started", "date_done", "traceback"]
    TaskResult.objects.bulk_create(
        rows, CHUNK, update_conflicts=True, unique_fields=["task_id"], update_fields=changing
    )


def _result(record: Record) -> str | None:
    """As Celery's backends encode it: an exception is its type, message and module."""
    if record.status in {"FAILURE", "RETRY", "REVOKED"}:
        message = [record.failure or record.status.lower(), record.error]
        return json.dumps(
            {"exc_type": TaskFailed.__name__, "exc_message": message, "exc_module": __name__}
        )
    return None if record.result is None else json.dumps(record.result)


REPAIRED_FOR = 120
"""Seconds after the end of a task in which its record is looked at again."""


def repair() -> int:
    """Write the records of tasks that ended without a worker: cancelled, late, or for another's
    failure. Returns how many."""
    as_text = (
        "t.id::text"
        if sql.is_postgres()
        else " || '-' || ".join(
            f"substr(t.id, {start}, {length})"
            for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
        )
    )
    found = sql.rows(
        f"""
        SELECT t.id, t.kind, t.state, t.worker, t.started_at, t.failure, t.error
        FROM {sql.TASK} t JOIN {sql.BATCH} b ON b.id = t.batch_id AND b.backend = 'celery'
        LEFT JOIN django_celery_results_taskresult r ON r.task_id = {as_text}
        WHERE t.finished_at > {sql.later(f"-{REPAIRED_FOR}")} AND t.state IN ('failed', 'cancelled')
          AND (r.status IS NULL
               OR r.status <> CASE t.state WHEN 'failed' THEN 'FAILURE' ELSE 'REVOKED' END)
        ORDER BY t.finished_at LIMIT {CHUNK}
        """  # noqa: S608 - names and numbers of ours
    )
    write(
        Record(
            task_id=sql.as_uuid(task_id),
            kind=kind,
            status=celery_status(state, 1),
            worker=worker,
            started_at=_moment(started_at),
            failure=failure,
            error=error,
        )
        for task_id, kind, state, worker, started_at, failure, error in found
    )
    return len(found)


def _moment(value: datetime | str | None) -> datetime | None:
    """What a raw cursor gives: SQLite has no type for it."""
    return datetime.fromisoformat(f"{value}+00:00") if isinstance(value, str) else value

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

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from agents.contract import JSON
from batches import registry
from batches.celery_words import celery_status
from batches.models import Batch, Task
from batches.queue import sql
from batches.states import BackendName, BatchState, TaskState

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


def repair() -> None:
    """Write the records of tasks that ended without a worker: cancelled, late, or for another's
    failure. Of a batch once it is finished, so that nothing of it changes meanwhile."""
    done = Batch.objects.filter(
        backend=BackendName.CELERY, state=BatchState.DONE, mirrored_at__isnull=True
    )
    for batch in list(done.order_by("number").values_list("pk", flat=True)[:20]):
        position: int | None = -1
        while position is not None:
            position = _repair_some(batch, position)


def _repair_some(batch: UUID, after: int) -> int | None:
    """One chunk; returns where the next one begins, None at the end."""
    from django_celery_results.models import TaskResult  # noqa: PLC0415 - only with a broker

    with transaction.atomic():
        # A retry locks the batch first as well: what it queues again is not written over.
        sql.lock_batches("b.id = %s", [sql.one_id(batch)])
        row = Batch.objects.filter(pk=batch, state=BatchState.DONE)
        if not row.exists():
            return None
        ended = Task.objects.filter(
            batch=batch, state__in=(TaskState.FAILED, TaskState.CANCELLED), position__gt=after
        )
        tasks = list(ended.order_by("position").defer("payload", "result")[:CHUNK])
        if not tasks:
            row.update(mirrored_at=Now())
            return None
        found = TaskResult.objects.filter(task_id__in=[str(task.pk) for task in tasks])
        known = dict(found.values_list("task_id", "status"))
        write(
            Record(
                task_id=task.pk,
                kind=task.kind,
                status=wanted,
                worker=task.worker,
                started_at=task.started_at,
                failure=task.failure,
                error=task.error,
            )
            for task in tasks
            if known.get(str(task.pk)) != (wanted := celery_status(task.state, task.attempt))
        )
        last: int = tasks[-1].position
    return last

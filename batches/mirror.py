"""Celery's own record of a task, the ``TaskResult``: a mirror of the row, written with it.

Celery would write it in six queries of its own, and could overwrite the result of the attempt that
counted with that of one whose lease was lost. So its tasks ignore their results, and whoever writes
the row writes this too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Case, CharField, Exists, Func, OuterRef, Value, When
from django.db.models.functions import Now
from django.utils import timezone

from agents.contract import JSON
from batches import identity, registry
from batches.celery_words import FINAL, celery_status
from batches.models import Batch, Task
from batches.queue import sql
from batches.states import FINISHED, BackendName, BatchState, TaskState

logger = logging.getLogger(__name__)

CHUNK = 100
LATELY = timedelta(seconds=30)
MOST_LATELY = 1000
"""Tasks a turn; the others have the next one."""


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


COLUMNS = (
    "task_id", "task_name", "task_args", "task_kwargs", "status", "worker", "content_type",
    "content_encoding", "result", "date_created", "date_started", "date_done", "traceback", "meta",
)  # fmt: skip
CHANGING = ("status", "worker", "result", "date_started", "date_done", "traceback")
INTO = f"django_celery_results_taskresult ({', '.join(COLUMNS)})"
CHANGES = ", ".join(f"{column} = excluded.{column}" for column in CHANGING)
ON_CONFLICT = f"ON CONFLICT (task_id) DO UPDATE SET {CHANGES}"


def write(records: Iterable[Record]) -> None:
    """Insert or update them, in one statement for each hundred.

    Not by ``bulk_create``, which takes longer than the statement.
    """
    kinds = registry.kinds()
    now = timezone.now()
    rows = [_row(record, kinds[record.kind].task, now) for record in records]
    marks = f"({', '.join(['%s'] * len(COLUMNS))})"
    with connection.cursor() as cursor:
        while rows:
            some, rows = rows[:CHUNK], rows[CHUNK:]
            values = ", ".join([marks] * len(some))
            statement = f"INSERT INTO {INTO} VALUES {values} {ON_CONFLICT}"  # noqa: S608 - names of ours
            cursor.execute(statement, [value for row in some for value in row])


def insert(record: Record) -> tuple[str, list[Any]]:
    """The same of one, as part of a statement: if ``counted`` has a row there; and parameters."""
    row = _row(record, registry.kinds()[record.kind].task, timezone.now())
    marks = ", ".join(["%s"] * len(COLUMNS))
    return f"INSERT INTO {INTO} SELECT {marks} FROM counted {ON_CONFLICT}", list(row)  # noqa: S608


def _row(record: Record, name: str, now: datetime) -> tuple[str | datetime | None, ...]:
    task = str(record.task_id)
    return (
        task, name, json.dumps(repr((task,))), '"{}"', record.status, record.worker[:100],
        "application/json", "utf-8", _result(record), now, record.started_at, now,
        record.error or None, '{"children": []}',
    )  # fmt: skip


def _result(record: Record) -> str | None:
    """As Celery's backends encode it: an exception is its type, message and module."""
    if record.status in {"FAILURE", "RETRY", "REVOKED"}:
        message = [record.failure or record.status.lower(), record.error]
        return json.dumps(
            {"exc_type": TaskFailed.__name__, "exc_message": message, "exc_module": __name__}
        )
    return None if record.result is None else json.dumps(record.result)


def repair() -> None:
    """Write the records of tasks that ended without a Celery worker: cancelled, late, for another's
    failure, or on a database worker that stood in. Within moments where they failed or were
    cancelled; the rest, and what nobody saw in time, once its batch is finished."""
    _repair_open()
    done = Batch.objects.filter(
        backend=BackendName.CELERY, state=BatchState.DONE, mirrored_at__isnull=True
    )
    for batch in list(done.order_by("number").values_list("pk", flat=True)[:20]):
        position: int | None = -1
        while position is not None:
            position, written = _repair_some(batch, position)
            _report(written)


def put_right(tasks: Iterable[UUID]) -> None:
    """The same of these, where they have ended, whether or not their batches go on."""
    ended = Task.objects.filter(
        pk__in=list(tasks), batch__backend=BackendName.CELERY, state__in=FINISHED
    )
    for batch in set(ended.values_list("batch", flat=True)):
        with transaction.atomic():
            sql.lock_batches("b.id = %s", [sql.one_id(batch)])
            written = _put_right(list(ended.filter(batch=batch).values_list(*_END)))
        _report(written)


def _repair_open() -> None:
    """In batches that go on: what ended lately, and is recorded otherwise or not at all."""
    from django_celery_results.models import TaskResult  # noqa: PLC0415 - only with a broker

    word = Case(
        When(state=TaskState.FAILED, then=Value(FINAL[TaskState.FAILED])),
        default=Value(FINAL[TaskState.CANCELLED]),
    )
    right = TaskResult.objects.filter(task_id=_Dashed(OuterRef("pk")), status=OuterRef("word"))
    wrong = Task.objects.annotate(word=word).filter(
        ~Exists(right),
        finished_at__gt=Now() - LATELY,
        state__in=(TaskState.FAILED, TaskState.CANCELLED),
        batch__backend=BackendName.CELERY,
        batch__state=BatchState.OPEN,
    )
    tasks = list(wrong.values_list("pk", flat=True)[:MOST_LATELY])
    for first in range(0, len(tasks), CHUNK):
        put_right(tasks[first : first + CHUNK])


class _Dashed(Func):
    """An id as Celery writes it; SQLite has its digits alone."""

    output_field = CharField()
    template = "%(expressions)s::text"

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        parts = (1, 8), (9, 4), (13, 4), (17, 4), (21, 12)
        template = " || '-' || ".join(f"substr(%(expressions)s, {at}, {n})" for at, n in parts)
        return self.as_sql(compiler, connection, template=template, **context)


def _report(records: Sequence[Record]) -> None:
    """Tell Flower what the workers that began them could not; the records are right without it."""
    begun = [record for record in records if record.worker]
    if not begun:
        return
    from batches.backends import celery  # noqa: PLC0415 - only with a broker

    try:
        celery.report(
            [
                celery.Report(
                    task_id=record.task_id,
                    worker=record.worker,
                    status=record.status,
                    why=repr(TaskFailed(record.failure, record.error)),
                )
                for record in begun
            ]
        )
    except celery.NotPublished as error:
        logger.warning("Flower does not hear how %d tasks ended: %s", len(begun), error)


def _repair_some(batch: UUID, after: int) -> tuple[int | None, list[Record]]:
    """One chunk; returns where the next one begins, None at the end, and what it wrote."""
    with transaction.atomic():
        sql.lock_batches("b.id = %s", [sql.one_id(batch)])
        row = Batch.objects.filter(pk=batch, state=BatchState.DONE)
        if not row.exists():
            return None, []
        ended = Task.objects.filter(batch=batch, state__in=FINISHED, position__gt=after)
        tasks = list(ended.order_by("position").values_list(*_END, "position")[:CHUNK])
        if not tasks:
            row.update(mirrored_at=Now())
            return None, []
        last: int = tasks[-1][-1]
        return last, _put_right([task[:-1] for task in tasks])


_END = ("pk", "state", "attempt", "worker")
_End = tuple[UUID, str, int, str]


def _put_right(tasks: Sequence[_End]) -> list[Record]:
    """Write the records of these that do not say what the rows say; returns them.

    The caller holds the lock of their batch: a retry takes it first as well, and what that queues
    again is not written over.
    """
    from django_celery_results.models import TaskResult  # noqa: PLC0415 - only with a broker

    found = TaskResult.objects.filter(task_id__in=[str(task) for task, *_ in tasks])
    known = {
        task_id: (status, worker or "")
        for task_id, status, worker in found.values_list("task_id", "status", "worker")
    }
    wrong = {
        task: known.get(str(task), ("", ""))[1] or identity.celery_node(worker)
        for task, state, attempt, worker in tasks
        if known.get(str(task), ("", ""))[0] != celery_status(state, attempt)
    }
    records = [
        Record(
            task_id=task.pk,
            kind=task.kind,
            status=celery_status(task.state, task.attempt),
            worker=wrong[task.pk],
            started_at=task.started_at,
            result=task.result,
            failure=task.failure,
            error=task.error,
        )
        for task in Task.objects.filter(pk__in=wrong).defer("payload")
    ]
    write(records)
    return records

"""How far a batch is: one computed word, and numbers made of counts somebody has read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Case, CharField, Exists, OuterRef, Q, Value, When

from batches.models import Task
from batches.states import FINISHED, BackendName, BatchState, BatchStatus, TaskState


def shown_status() -> Case:
    """The batch's ``BatchStatus`` as an expression, to annotate with and to filter by."""
    done = Q(state=BatchState.DONE)
    return Case(
        When(done & Q(cancel_requested_at__isnull=False), then=Value(BatchStatus.CANCELLED)),
        When(done & Q(summary__failed__gt=0), then=Value(BatchStatus.FAILED)),
        When(done, then=Value(BatchStatus.COMPLETED)),
        When(paused_at__isnull=False, then=Value(BatchStatus.PAUSED)),
        When(started_at__isnull=False, then=Value(BatchStatus.RUNNING)),
        default=Value(BatchStatus.QUEUED),
        output_field=CharField(),
    )


def shown_dispatch() -> Case:
    """Of a batch on Celery ``sent`` once a worker was told of a task of it, ``pending`` before
    that, because the broker is away or it is not its turn. Null on the database backend."""
    told = Task.objects.filter(
        batch=OuterRef("pk"), state=TaskState.QUEUED, dispatched_at__isnull=False
    )
    return Case(
        When(~Q(backend=BackendName.CELERY), then=Value(None)),
        When(Q(started_at__isnull=False) | Q(state=BatchState.DONE), then=Value("sent")),
        When(Exists(told), then=Value("sent")),
        default=Value("pending"),
        output_field=CharField(null=True),
    )


@dataclass(frozen=True, slots=True)
class Progress:
    counts: dict[str, int]
    """Tasks in each state, every state named."""
    percentage: float
    rate: float | None
    """Tasks a second that ran to an end since the first one started; None before that."""
    seconds_left: float | None
    """At that rate; None while it cannot be told."""


def progress(batch: Any, counts: Mapping[str, int], now: datetime) -> Progress:
    """``counts``: state → tasks of the batch, as counted, or the summary of a finished one."""
    every = {state.value: counts.get(state.value, 0) for state in TaskState}
    finished = sum(every[state] for state in FINISHED)
    total = sum(every.values())
    rate = None
    if batch.started_at is not None:
        seconds = ((batch.finished_at or now) - batch.started_at).total_seconds()
        ran = every[TaskState.SUCCEEDED] + every[TaskState.FAILED]
        rate = ran / seconds if seconds > 0 else None
    left = total - finished
    return Progress(
        counts=every,
        percentage=round(100 * finished / total, 1) if total else 100.0,
        rate=None if rate is None else round(rate, 3),
        seconds_left=round(left / rate, 1) if rate else (None if left else 0.0),
    )

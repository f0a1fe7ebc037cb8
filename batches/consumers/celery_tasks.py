"""Celery tasks beside those that run rows: for Celery clients, and for beat.

``batch_validation`` and its like take the id of a stored batch and dispatch it now; the two
``get_…_status`` tell what the REST calls tell.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder

from batches import dispatch, registry, upkeep
from batches.celery_answers import group_told, task_told
from batches.models import Batch, Task
from batches.states import BackendName

MOST_TOLD = 1000
"""Tasks of a group in one answer; the REST call has pages."""


def group_task_name(kind: registry.Kind) -> str:
    return f"batch_{kind.endpoint.replace('-', '_')}"


def dispatch_batch(kind: str, batch_id: str) -> dict[str, Any]:
    """Tell workers of a stored batch now; ``{"group_id", "total"}``.

    Raises:
        LookupError: there is no such batch of that kind on Celery.
    """
    batch = (
        Batch.objects.sealed()
        .filter(pk=UUID(batch_id), kind=kind, backend=BackendName.CELERY)
        .first()
    )
    if batch is None:
        raise LookupError(f"There is no batch {batch_id} of {kind} on Celery.")
    dispatch.dispatch()
    return {"group_id": batch_id, "total": batch.total}


def get_task_status(task_id: str) -> dict[str, Any]:
    """One task in Celery's words.

    Raises:
        LookupError: there is none.
    """
    task = Task.objects.filter(pk=UUID(task_id), batch__backend=BackendName.CELERY).first()
    if task is None:
        raise LookupError(f"There is no task {task_id} on Celery.")
    return _plain(task_told(task))


def get_group_status(group_id: str) -> dict[str, Any]:
    """One batch in Celery's words, with its first tasks.

    Raises:
        LookupError: there is none.
    """
    batches = Batch.objects.sealed().filter(pk=UUID(group_id), backend=BackendName.CELERY)
    batch = batches.first()
    if batch is None:
        raise LookupError(f"There is no group {group_id}.")
    counts = batch.summary or batches.order_by().counts()[batch.pk]
    tasks = Task.objects.filter(batch=batch).order_by("position", "variant")[:MOST_TOLD]
    return _plain(group_told(batch, counts, tasks))


def cleanup_old_results(results: Any) -> dict[str, int]:
    """Delete what RETENTION_DAYS and CELERY_RESULT_DAYS no longer keep.

    ``results``: Celery's result backend, which knows what has expired.
    """
    results.cleanup()
    deleted = 0
    if settings.RETENTION_DAYS:
        with suppress(upkeep.CleanupBusy):
            for batch in upkeep.cleanup(timedelta(days=settings.RETENTION_DAYS)):
                deleted += batch is not None
    return {"batches": deleted}


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    """Ids and times as text, as JSON has them."""
    plain: dict[str, Any] = json.loads(json.dumps(told, cls=DjangoJSONEncoder))
    return plain

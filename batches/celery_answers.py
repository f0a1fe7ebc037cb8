"""What is told of tasks and groups in Celery's words: to HTTP clients, and to Celery's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils import timezone

from batches import registry
from batches.celery_words import celery_status
from batches.models import Batch, Task
from batches.progress import progress
from batches.states import FINISHED, TaskState


def task_told(task: Task) -> dict[str, Any]:
    """One task: ``{"task_id", "status", "ready", "successful", "result", "error", "meta"}``."""
    return {
        "task_id": task.pk,
        "status": celery_status(task.state, task.attempt),
        "ready": task.state in FINISHED,
        "successful": task.state == TaskState.SUCCEEDED,
        "result": task.result,
        "error": task.error,
        "meta": {
            "name": registry.kind(task.kind).task,
            "kind": task.kind,
            "group_id": task.batch_id,
            "custom_id": task.custom_id,
            "variant": task.variant,
            "attempt": task.attempt,
            "failure": task.failure,
            "worker": task.worker,
            "started_at": task.started_at,
            "finished_at": task.finished_at,
        },
    }


def group_told(batch: Batch, counts: dict[str, int], tasks: Iterable[Task]) -> dict[str, Any]:
    """One batch, as counted, and some of its tasks."""
    far = progress(batch, counts, timezone.now())
    finished = sum(far.counts[state] for state in FINISHED)
    return {
        "group_id": batch.pk,
        "total": batch.total,
        "completed": finished,
        "successful": far.counts[TaskState.SUCCEEDED],
        "failed": far.counts[TaskState.FAILED],
        "progress": far.percentage,
        "ready": finished == batch.total,
        "results": [task_told(task) for task in tasks],
    }

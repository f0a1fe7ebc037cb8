"""Celery's word for a task's state."""

from __future__ import annotations

from batches.states import TaskState

PENDING, STARTED, RETRY = "PENDING", "STARTED", "RETRY"
FINAL = {
    TaskState.SUCCEEDED: "SUCCESS",
    TaskState.FAILED: "FAILURE",
    TaskState.CANCELLED: "REVOKED",
}


def celery_status(state: str, attempts: int) -> str:
    """The word, after so many attempts. A task that waits for another one is in ``RETRY``."""
    if state == TaskState.RUNNING:
        return STARTED
    if state == TaskState.QUEUED:
        return RETRY if attempts else PENDING
    return FINAL[TaskState(state)]

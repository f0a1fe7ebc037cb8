"""What is said to Celery workers."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Message:
    """What a Celery worker is told: whose turn it is."""

    task_id: UUID
    kind: str
    queue: str
    priority: int
    message_id: UUID
    """The task's own id, but for a task that was revoked and retried."""
    began_by: str = ""
    """The worker that last began it; empty if none did."""

"""The words of the queue: states, why things failed, and which moves are allowed. No ORM."""

from __future__ import annotations

from django.db.models import TextChoices


class TaskState(TextChoices):
    QUEUED = "queued", "Queued"
    """Waits for a worker; columns say what else it waits for. Moved on by a claim or a cancel."""

    RUNNING = "running", "Running"
    """Leased to a worker until ``leased_until``. Moved on by its settle, release or reap."""

    SUCCEEDED = "succeeded", "Succeeded"
    """Ran to its end and the answer is yes. Final."""

    FAILED = "failed", "Failed"
    """Ended without the wanted answer; ``failure`` says why. Moved on only by a manual retry."""

    CANCELLED = "cancelled", "Cancelled"
    """Somebody did not want it any more. Moved on only by a manual retry."""


MOVES: dict[TaskState, frozenset[TaskState]] = {
    TaskState.QUEUED: frozenset({TaskState.RUNNING, TaskState.CANCELLED, TaskState.FAILED}),
    TaskState.RUNNING: frozenset(
        {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.QUEUED}
    ),
    TaskState.FAILED: frozenset({TaskState.QUEUED}),
    TaskState.CANCELLED: frozenset({TaskState.QUEUED}),
    TaskState.SUCCEEDED: frozenset(),
}

UNFINISHED = (TaskState.QUEUED, TaskState.RUNNING)
FINISHED = (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)


class Failure(TextChoices):
    REJECTED = "rejected", "Rejected"
    """It ran to its end and the answer is no. Never retried by itself."""

    ERROR = "error", "Error"
    """The processor or its tools broke. Retried."""

    TIMEOUT = "timeout", "Timeout"
    """It ran longer than allowed (retried), or the batch's deadline passed (not retried)."""

    LIMIT = "limit", "Limit"
    """A limit of the task itself was reached. Never retried by itself."""

    LOST = "lost", "Lost"
    """Its worker or slot vanished while it ran. Retried where a replay is safe."""

    DEPENDENCY = "dependency", "Dependency"
    """A task or batch it waits for did not succeed. Requeued when that one is retried."""


RETRIED = frozenset({Failure.ERROR, Failure.TIMEOUT, Failure.LOST})
DEAD_LETTERS = (Failure.ERROR, Failure.TIMEOUT, Failure.LOST, Failure.LIMIT)


class AttemptOutcome(TextChoices):
    SUCCEEDED = "succeeded", "Succeeded"
    REJECTED = "rejected", "Rejected"
    ERROR = "error", "Error"
    TIMEOUT = "timeout", "Timeout"
    LIMIT = "limit", "Limit"
    LOST = "lost", "Lost"
    CANCELLED = "cancelled", "Cancelled"
    RELEASED = "released", "Handed back"
    UNAVAILABLE = "unavailable", "Resource away"


class BatchState(TextChoices):
    OPEN = "open", "Open"
    """Some of its tasks may still run. Moved on by closing."""

    DONE = "done", "Done"
    """Every task is finished and the summary is stored. Moved back by a retry."""


class BatchStatus(TextChoices):
    """What a person is shown; computed, never stored."""

    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    PAUSED = "paused", "Paused"
    CANCELLED = "cancelled", "Cancelled"
    FAILED = "failed", "Failed"
    COMPLETED = "completed", "Completed"


class BackendName(TextChoices):
    DATABASE = "database", "Database"
    CELERY = "celery", "Celery"


class Transport(TextChoices):
    """How an MCP server is spoken to."""

    STDIO = "stdio", "Standard input and output"
    HTTP = "http", "Streamable HTTP"


class ModelProtocol(TextChoices):
    """How a server of language models is spoken to."""

    OLLAMA = "ollama", "Ollama"
    OPENAI = "openai", "OpenAI-compatible"


class DecisionVerb(TextChoices):
    """What a person may do with a patch that waits for review."""

    APPLY = "apply", "Apply"
    DISCARD = "discard", "Discard"


class OnFailure(TextChoices):
    CONTINUE = "continue", "Continue"
    STOP = "stop", "Stop"
    """The first failed task cancels what waits and lets what runs finish."""


class PriorityFrom(TextChoices):
    """Where a task's priority came from: a change there rewrites the rows that inherited it."""

    ITEM = "item", "Item"
    BATCH = "batch", "Batch"
    QUEUE = "queue", "Queue"


class WorkerState(TextChoices):
    STARTING = "starting", "Starting"
    """Takes nothing yet."""

    RUNNING = "running", "Running"
    DRAINING = "draining", "Draining"
    STOPPED = "stopped", "Stopped"

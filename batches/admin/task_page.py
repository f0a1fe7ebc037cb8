"""The page of one task: why it ended so, what it said, what it produced."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.urls import reverse
from django.utils import timezone

from batches.admin import markup, results
from batches.models import Attempt, Dependency, LogLine, Task
from batches.states import FINISHED, AttemptOutcome, TaskState

LOG_BEFORE = "log_before"
"""Query parameter: the id that the shown log lines come before."""
LOG_LINES = 200
ATTEMPTS = 50
NEIGHBOURS = 25


def context(task: Task, log_before: str | None) -> dict[str, Any]:
    """What ``console/task.html`` shows of a task with its batch, workspace and owner."""
    return {
        "task": task,
        "live": task.state not in FINISHED,
        "path": path_of(task),
        "badges": markup.task_badges(task),
        "failure": markup.badge(task.failure, task.get_failure_display()) if task.failure else "",
        "error": results.clip(task.error),
        "waits_for": waits_for(task),
        "history": reverse("admin:batches_task_history", args=[task.pk]),
        "facts": list(facts(task)),
        "attempts": attempts(task),
        "log": log(task, log_before),
        "result": results.shown(task),
        "payload": markup.pretty(task.payload, results.LARGE),
        "downloads": {
            name: reverse("admin:batches_task_json", args=[task.pk, name])
            for name in ("result", "payload")
        },
        "artefacts": [
            {
                "row": row,
                "url": reverse(
                    "admin:batches_task_artefact", args=[task.pk, row.attempt, row.name]
                ),
            }
            for row in task.artefacts.all()[:100]
        ],
        "predecessors": neighbours(task, "task", "predecessor"),
        "dependents": neighbours(task, "predecessor", "task"),
    }


def path_of(task: Task) -> str:
    """The path it is about, where its id does not say it."""
    path = str(task.payload.get("path", ""))
    return "" if path == task.custom_id else path


def waits_for(task: Task) -> str:
    """Why a queued task has not started, as far as its own columns tell."""
    if task.state != TaskState.QUEUED:
        return ""
    if task.unmet_dependencies:
        return "waits for other tasks"
    if task.waiting_for:
        return f"waits for {task.waiting_for}"
    if task.run_after and task.run_after > timezone.now():
        return f"starts in {markup.duration(task.run_after - timezone.now())}"
    return "batch is paused" if task.batch.paused_at else ""


def attempts(task: Task) -> list[dict[str, Any]]:
    """The newest attempts, newest first; the running one lives in the task's own columns."""
    told = [
        {
            "number": row.number,
            "worker": row.worker,
            "outcome": AttemptOutcome(row.outcome),
            "error": row.error,
            "sandbox": row.sandbox,
            "started": markup.moment(row.started_at),
            "took": markup.took(row.started_at, row.finished_at),
        }
        for row in Attempt.objects.filter(task=task).order_by("-number")[:ATTEMPTS]
    ]
    if task.state == TaskState.RUNNING:
        running = {
            "number": task.attempt,
            "worker": task.worker,
            "outcome": TaskState.RUNNING,
            "started": markup.moment(task.started_at),
            "took": markup.took(task.started_at, None),
        }
        return [running, *told]
    return told


def log(task: Task, before: str | None) -> dict[str, Any]:
    """The last lines, newest at the end, and the id from which older ones go on."""
    lines = LogLine.objects.filter(task=task).order_by("-id")
    if before and before.isdecimal():
        lines = lines.filter(id__lt=int(before))
    found = list(lines[: LOG_LINES + 1])
    shown = found[:LOG_LINES][::-1]
    return {
        "lines": [
            {
                "at": markup.exact(line.at),
                "clock": line.at.strftime("%H:%M:%S.%f")[:-3],
                "attempt": line.attempt,
                "event": line.event,
                "text": "  ".join(said(line.fields)),
            }
            for line in shown
        ],
        "older": shown[0].pk if len(found) > LOG_LINES else None,
        "is_newest": not before,
    }


def said(fields: dict[str, Any]) -> Iterable[str]:
    """``name=value`` for each field of a log line."""
    for name, value in fields.items():
        text = value if isinstance(value, str) else markup.compact(value)
        yield f"{name}={text[:2_000]}{'…' if len(text) > 2_000 else ''}"


def neighbours(task: Task, mine: str, other: str) -> list[Task]:
    """Tasks on the other end of the task's dependencies."""
    edges = (
        Dependency.objects.filter(**{mine: task})
        .select_related(other)
        .only(f"{other}__custom_id", f"{other}__state")
        .order_by(f"{other}__position")[:NEIGHBOURS]
    )
    return [getattr(edge, other) for edge in edges]


def facts(task: Task) -> Iterable[tuple[str, object]]:
    """Labels and values of how it is run."""
    batch = task.batch
    yield "Id", task.pk
    yield "Kind", task.kind
    yield "Queue", batch.queue_id
    yield "Place", f"{task.position + 1:,} of {batch.total:,}"
    yield "Priority", f"{task.priority}, from the {task.get_priority_from_display().lower()}"
    yield "Attempt", task.attempt
    yield "Budget", f"{task.failures} of {task.max_attempts} failures used"
    yield "Timeout", f"{task.timeout:,} s for an attempt"
    yield "Workspace", batch.workspace or markup.NOTHING
    yield "Owner", batch.owner or markup.NOTHING
    if task.needs:
        yield "Needs", ", ".join(map(str, task.needs))
    if task.worker:
        yield "Worker", task.worker
    for label, at in (
        ("Created", task.created_at),
        ("Not before", task.run_after),
        ("Started", task.started_at),
        ("Cancel asked", task.cancel_requested_at),
        ("Finished", task.finished_at),
    ):
        if at:
            yield label, markup.moment(at)
    yield "Duration", markup.took(task.started_at, task.finished_at)

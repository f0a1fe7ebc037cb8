"""The page of one task: why it ended so, what it said, what it produced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.urls import reverse
from django.utils import timezone

from batches.admin import markup, patches, results, transcript
from batches.models import Attempt, Batch, Dependency, LogLine, Task
from batches.predecessors import PATCH
from batches.review import last_decision
from batches.states import FINISHED, AttemptOutcome, DecisionVerb, TaskState
from batches.variants import queue_of

LOG_BEFORE = "log_before"
"""Query parameter: the id that the shown log lines come before."""
TRANSCRIPT = "transcript.jsonl"
LOG_LINES = 200
ATTEMPTS = 50
NEIGHBOURS = 25


def context(task: Task, asked: Mapping[str, str]) -> dict[str, Any]:
    """What ``console/task.html`` shows of a task with its batch, workspace, owner and decision."""
    said = None
    if task.kind == "agent":
        said = transcript.transcript(task, asked.get(transcript.SAID_BEFORE))
    artefacts = [
        {
            "row": row,
            "url": reverse("admin:batches_task_artefact", args=[task.pk, row.attempt, row.name]),
        }
        for row in task.artefacts.all()[:100]
    ]
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
        "log": log(task, asked.get(LOG_BEFORE), without_talk=said is not None),
        "transcript": said and said | {"url": url_of(artefacts, task, TRANSCRIPT)},
        "patch": patch(task, artefacts),
        "decided": decided(task),
        "variants": variants(task),
        "result": results.shown(task),
        "payload": markup.pretty(task.payload, results.LARGE),
        "downloads": {
            name: reverse("admin:batches_task_json", args=[task.pk, name])
            for name in ("result", "payload")
        },
        "artefacts": artefacts,
        "predecessors": neighbours(task, "task", "predecessor"),
        "dependents": neighbours(task, "predecessor", "task"),
    }


def path_of(task: Task) -> str:
    """What it is about, where its id does not say it."""
    path = str(task.payload.get("path", "") or task.payload.get("description", ""))
    return "" if path == task.custom_id else path


def url_of(artefacts: list[dict[str, Any]], task: Task, name: str) -> str:
    """Where a file of the last attempt is downloaded; empty where it left none."""
    for each in artefacts:
        if (each["row"].name, each["row"].attempt) == (name, task.attempt):
            return str(each["url"])
    return ""


def patch(task: Task, artefacts: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The last attempt's patch, where it left one."""
    url = url_of(artefacts, task, PATCH)
    found = patches.patch_of(task) if url else None
    return found and found | {"url": url}


def decided(task: Task) -> dict[str, Any] | None:
    """What a person decided on the patch."""
    decision = last_decision(task)
    if decision is None:
        return None
    discarded = decision.verb == DecisionVerb.DISCARD
    applying = decision.applying
    state = applying.state if applying else TaskState.SUCCEEDED
    words = "Discarded" if discarded else "Applied" if state == TaskState.SUCCEEDED else "Applying"
    return {
        "badge": markup.badge("cancelled" if discarded else state, words),
        "by": decision.by or markup.NOTHING,
        "at": markup.moment(decision.at),
        "url": reverse("admin:batches_task_change", args=[applying.pk]) if applying else "",
    }


def variants(task: Task) -> list[Task]:
    """The same item in the other variants."""
    if not task.variant:
        return []
    same = Task.objects.filter(batch=task.batch_id, custom_id=task.custom_id)
    others = same.exclude(pk=task.pk).only("variant", "state").order_by("variant")
    return list(others[:NEIGHBOURS])


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


def log(task: Task, before: str | None, *, without_talk: bool = False) -> dict[str, Any]:
    """The last lines, newest at the end, and the id from which older ones go on."""
    lines = LogLine.objects.filter(task=task).order_by("-id")
    if without_talk:
        lines = lines.exclude(event__in=transcript.EVENTS)
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


def items_of(batch: Batch) -> int:
    """How many items it has; each is a task of every variant."""
    return batch.total // max(1, len(batch.variants))


def facts(task: Task) -> Iterable[tuple[str, object]]:
    """Labels and values of how it is run."""
    batch = task.batch
    yield "Id", task.pk
    yield "Kind", task.kind
    yield "Queue", queue_of(batch, task.variant)
    yield "Place", f"{task.position + 1:,}" + ("" if batch.left_out else f" of {items_of(batch):,}")
    if task.variant:
        yield "Variant", task.variant
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

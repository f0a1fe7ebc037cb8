"""The page of one batch: how far it is, what failed and why, and the way to its tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count
from django.template.defaultfilters import pluralize
from django.urls import reverse
from django.utils import timezone
from django.utils.text import Truncator

from batches.admin import markup
from batches.models import Batch, Task
from batches.progress import progress
from batches.states import Failure, TaskState
from batches.variants import queues

PREVIEWED = 25


def context(batch: Any, user: Any) -> dict[str, Any]:
    """What ``console/batch.html`` shows of a batch annotated with ``shown_status``."""
    states, failures = counts(batch)
    batch.counted = states
    now = progress(batch, states, timezone.now())
    is_moving = batch.finished_at is None and batch.paused_at is None
    return {
        "batch": batch,
        "live": batch.finished_at is None,
        "badges": markup.batch_badges(batch),
        "history": reverse("admin:batches_batch_history", args=[batch.pk]),
        "progress": now,
        "total": f"{batch.total:,}",
        "time_left": markup.left(now.seconds_left) if is_moving else "",
        "bar": markup.bar(states),
        "states": [
            {
                "name": state.value,
                "label": state.label,
                "number": f"{number:,}",
                "url": tasks_url(batch, state=state),
            }
            for state in markup.BAR_ORDER
            if (number := states.get(state, 0))
        ],
        "failures": [
            {
                "name": failure.value,
                "label": failure.label,
                "number": f"{number:,}",
                "url": tasks_url(batch, state=TaskState.FAILED, failure=failure),
            }
            for failure in Failure
            if (number := failures.get(failure, 0))
        ],
        "tasks_url": tasks_url(batch),
        "downloads": list(downloads(batch)) if states else [],
        "facts": list(facts(batch)),
        "options": markup.pretty(batch.options) if batch.options else "",
        "after": list(
            Batch.objects.visible_to(user).filter(followers=batch).only("id", "name", "kind")[:20]
        ),
        "preview": preview(batch),
        "resumed": resumed(batch, user),
    }


def resumed(batch: Batch, user: Any) -> Batch | None:
    """The batch whose successes it left out, while that is there."""
    if batch.resumes is None:
        return None
    found: Batch | None = Batch.objects.visible_to(user).filter(pk=batch.resumes).first()
    return found


def counts(batch: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Tasks by state and failed tasks by reason: from the summary, or counted in one query."""
    if batch.summary is not None:
        return markup.states(batch.summary), batch.summary.get("failures", {})
    states: dict[str, int] = {}
    failures: dict[str, int] = {}
    rows = (
        Task.objects.filter(batch=batch)
        .order_by()
        .values_list("state", "failure")
        .annotate(number=Count("*"))
    )
    for state, failure, number in rows:
        states[state] = states.get(state, 0) + number
        if failure:
            failures[failure] = number
    return states, failures


def preview(batch: Batch) -> list[dict[str, Any]]:
    """What needs a look: failed tasks first, then running ones."""
    found: list[Task] = []
    for state in (TaskState.FAILED, TaskState.RUNNING):
        tasks = Task.objects.filter(batch=batch, state=state).defer("payload", "result")
        tasks = tasks.annotate(path=markup.about())
        found += tasks.order_by("position")[: PREVIEWED - len(found)]
    return [
        {
            "row": task,
            "name": markup.task_name(task),
            "badges": markup.task_badges(task),
            "took": markup.took(task.started_at, task.finished_at),
            "error": Truncator(task.error).chars(160),
        }
        for task in found
    ]


def tasks_url(batch: Batch, **filters: str) -> str:
    """The list of the batch's tasks, narrowed by the task list's filters."""
    query = {"batch": batch.pk} | {f"{name}__exact": value for name, value in filters.items()}
    return f"{reverse('admin:batches_task_changelist')}?{urlencode(query)}"


def downloads(batch: Batch) -> Iterable[tuple[str, str]]:
    """Names and addresses of the batch's results, in each form that its kind has."""
    results = reverse("batch-results", args=[batch.pk])
    yield "JSON Lines", results
    yield "CSV", f"{results}?format=csv"
    if batch.kind == "validation":
        yield "SARIF", reverse("batch-sarif", args=[batch.pk])
    if batch.kind == "test":
        yield "JUnit XML", reverse("batch-junit", args=[batch.pk])


def facts(batch: Batch) -> Iterable[tuple[str, object]]:
    """Labels and values of what was asked for."""
    yield "Id", batch.pk
    yield "Kind", batch.kind
    yield "Queue", ", ".join(queues(batch))
    yield "Backend", batch.get_backend_display()
    yield "Priority", "the queue's" if batch.priority is None else batch.priority
    yield "Owner", batch.owner or markup.NOTHING
    yield "Workspace", batch.workspace or markup.NOTHING
    yield (
        "At once",
        "no limit"
        if batch.parallel is None
        else f"{batch.parallel:,} task{pluralize(batch.parallel)}",
    )
    yield "Attempts", f"at most {batch.max_attempts} that fail"
    yield "Timeout", f"{batch.timeout:,} s for an attempt"
    yield "On failure", batch.get_on_failure_display()
    if batch.left_out:
        yield "Left out", f"{batch.left_out:,} that succeeded before"
    if batch.labels:
        yield "Labels", ", ".join(map(str, batch.labels))
    for label, at in (
        ("Created", batch.created_at),
        ("Not before", batch.run_at),
        ("Deadline", batch.deadline),
        ("Started", batch.started_at),
        ("Paused", batch.paused_at),
        ("Cancel asked", batch.cancel_requested_at),
        ("Finished", batch.finished_at),
    ):
        if at:
            yield label, markup.moment(at)

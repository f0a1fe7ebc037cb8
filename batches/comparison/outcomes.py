"""Item by item: which variants passed it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import F, QuerySet

from agents.contract import JSON
from batches.comparison.figures import AGENT_FIELDS, Column, passed, usage
from batches.models import Batch, Decision, Task


def items(batch: Batch) -> QuerySet[Any, Any]:
    """The items of a batch as ``position`` and ``custom_id``, unordered."""
    tasks = Task.objects.filter(batch=batch).order_by()
    return tasks.values("position", "custom_id").distinct()


def outcomes(compared: Sequence[Column], page: Sequence[JSON]) -> list[JSON]:
    """For each item of a page what each column's task came to; null where it has none."""
    batches = {column.batch.pk for column in compared}
    names = [item["custom_id"] for item in page]
    more = AGENT_FIELDS if any(column.batch.kind == "agent" for column in compared) else ()
    tasks = list(
        Task.objects.filter(batch__in=batches, custom_id__in=names)
        .order_by()
        .values(
            "id", "batch", "custom_id", "variant", "state", "failure", "started_at",
            "finished_at", *more,
        )
    )  # fmt: skip
    decided = dict(
        Decision.objects.filter(
            task__in=[task["id"] for task in tasks], attempt=F("task__attempt")
        ).values_list("task", "verb")
    )
    found = {(task["custom_id"], task["batch"], task["variant"]): task for task in tasks}
    return [
        {
            **item,
            "tasks": [
                task and _told(task, decided.get(task["id"]))
                for column in compared
                for task in [found.get((item["custom_id"], column.batch.pk, column.variant))]
            ],
        }
        for item in page
    ]


def _told(task: JSON, decision: str | None) -> JSON:
    used = usage(task)
    started, finished = task["started_at"], task["finished_at"]
    return {
        "id": task["id"],
        "batch": task["batch"],
        "variant": task["variant"],
        "state": task["state"],
        "failure": task["failure"],
        "passed": passed(task),
        "seconds": round((finished - started).total_seconds(), 3) if started and finished else None,
        "loops": task.get("result__loops"),
        "turns": used and used.turns,
        "tokens": used and used.tokens_in + used.tokens_out,
        "applied": task.get("result__applied"),
        "decision": decision,
    }

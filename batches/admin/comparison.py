"""Variants side by side: a panel on the batch's page, and a page that goes item by item."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from batches.admin import markup
from batches.comparison.figures import Column, Figures, columns, figures
from batches.comparison.outcomes import items, outcomes
from batches.models import Batch, Task
from batches.review import is_open

LIVELY, SOON = 2_000, 20_000
"""Tasks of a batch up to which the panel is counted again every few seconds, and up to which it is
on the page at all: those of 100,000 take four seconds."""
ITEMS = 50


def panel(batch: Batch) -> dict[str, Any] | None:
    """The figures of each variant, unless they take long; None where there are no variants."""
    if not batch.variants:
        return None
    counted = figures(columns([batch])) if batch.total <= SOON else []
    return {
        "rows": [told(each) for each in counted],
        "url": reverse("admin:batches_batch_comparison", args=[batch.pk]),
    }


def told(each: Figures) -> dict[str, Any]:
    """The figures of one variant as texts."""
    known = each.as_json()
    rate, interval = each.pass_rate, each.interval
    seconds, turns = known["seconds"], known["turns"]
    return {
        "name": each.column.label,
        "options": ", ".join(option(*one) for one in each.options.items()),
        "passed": f"{each.passed:,} of {each.judged:,}",
        "rate": "" if rate is None else f"{rate:.0%}",
        "picture": picture(rate, interval) if rate is not None and interval else "",
        "interval": "" if interval is None else f"{interval[0]:.0%} to {interval[1]:.0%}",
        "median": markup.measured(seconds["median"]) if seconds else markup.NOTHING,
        "p90": markup.measured(seconds["p90"]) if seconds else markup.NOTHING,
        "turns": f"{turns['median']:g}" if turns else markup.NOTHING,
        "tokens": f"{each.tokens_in:,} / {each.tokens_out:,}" if turns else markup.NOTHING,
        "applied": f"{each.applied:,}",
        "tasks_url": tasks_url(each.column),
    }


def option(name: str, value: Any) -> str:
    return f"{name}: {value if isinstance(value, str) else markup.compact(value)}"


def picture(rate: float, interval: tuple[float, float]) -> dict[str, str]:
    """Where the rate and its interval lie, in hundredths of a bar."""
    low, high = interval
    return {
        "low": f"{100 * low:.2f}",
        "width": f"{100 * (high - low):.2f}",
        "rate": f"{min(100 * rate, 99):.2f}",
    }


def tasks_url(column: Column) -> str:
    query = {"batch": column.batch.pk, "variant": column.variant}
    return f"{reverse('admin:batches_task_changelist')}?{urlencode(query)}"


def page(batch: Batch, after: str | None, *, may_decide: bool) -> dict[str, Any]:
    """What ``console/comparison.html`` shows: the figures, and a page of the items."""
    compared = columns([batch])
    ordered = items(batch).order_by("position")
    if after and after.isdecimal():
        ordered = ordered.filter(position__gt=int(after))
    found = list(ordered[: ITEMS + 1])
    shown = found[:ITEMS]
    rows = outcomes(compared, shown)
    open_to = keepable(rows) if may_decide else {}
    return {
        "batch": batch,
        "title": f"Comparison: {batch}",
        # Of all its tasks: for many that takes seconds, which only the first page costs.
        "rows": [] if after else [told(each) for each in figures(compared)],
        "names": [column.label for column in compared],
        "items": [item(row, open_to) for row in rows],
        "older": shown[-1]["position"] if len(found) > ITEMS else None,
        "is_first": not after,
    }


def keepable(rows: Sequence[dict[str, Any]]) -> set[Any]:
    """The tasks of these rows that left a patch which somebody may keep."""
    ids = [task["id"] for row in rows for task in row["tasks"] if task and task["passed"]]
    tasks = Task.objects.filter(pk__in=ids).select_related("decision__applying")
    narrow = tasks.only("state", "attempt", "result", "decision", "decision__applying__state")
    return {task.pk for task in narrow if is_open(task)}


def item(row: dict[str, Any], open_to: Iterable[Any]) -> dict[str, Any]:
    return {
        "name": markup.clipped(row["custom_id"], 60),
        "tasks": [task and cell(task, task["id"] in open_to) for task in row["tasks"]],
    }


def cell(task: dict[str, Any], can_be_kept: bool) -> dict[str, Any]:  # noqa: FBT001
    words = {True: "passed", False: "failed"}.get(task["passed"], task["state"])
    facts = []
    if task["seconds"] is not None and task["passed"] is not None:
        facts.append(markup.measured(task["seconds"]))
    if task["loops"]:
        facts.append(f"{task['loops']} loop{'' if task['loops'] == 1 else 's'}")
    decided = {"apply": "kept", "discard": "discarded"}.get(task["decision"] or "")
    if decided is None and task["applied"] in {"applied", "already"}:
        decided = "applied"
    return {
        "url": reverse("admin:batches_task_change", args=[task["id"]]),
        "badge": markup.badge(
            words if task["passed"] is not None else task["state"], task["failure"] or words
        ),
        "facts": ", ".join(facts),
        "decided": decided or "",
        "keep": reverse("admin:batches_task_verb", args=[task["id"], "keep"])
        if can_be_kept
        else "",
    }

"""Small pieces of markup that lists and pages share. All text in them is escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import TextField
from django.db.models.fields.json import KT
from django.db.models.functions import Coalesce, Left
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from batches.states import FINISHED, BatchState, BatchStatus, TaskState

NOTHING = "\u2013"
"""What stands for an empty value: an en dash."""

BAR_ORDER = (
    TaskState.SUCCEEDED,
    TaskState.FAILED,
    TaskState.CANCELLED,
    TaskState.RUNNING,
    TaskState.QUEUED,
)
"""States as a bar shows them: what is over on the left, what waits on the right."""


def badge(value: str, label: str | None = None) -> SafeString:
    """A coloured word; ``value`` picks the colour (a state, status, failure or outcome)."""
    return format_html(
        '<span class="oc-badge oc-is-{}">{}</span>', value, label or value.capitalize()
    )


def batch_badges(batch: Any) -> SafeString:
    """The status of a batch annotated with ``shown_status``, and that it is being cancelled."""
    status = BatchStatus(batch.shown_status)
    ends = batch.cancel_requested_at and batch.state == BatchState.OPEN
    return _badges(status.value, str(status.label), cancelling=bool(ends))


def task_badges(task: Any) -> SafeString:
    """The state of a task, and that it was asked to stop."""
    state = TaskState(task.state)
    ends = task.cancel_requested_at and state not in FINISHED
    return _badges(state.value, str(state.label), cancelling=bool(ends))


def task_name(task: Any) -> SafeString:
    """The id of a task annotated with ``path``, its variant, and the path where that says more.

    Items without an id of their own are called by their number.
    """
    name = clipped(task.custom_id, 40)
    about = "" if task.path == task.custom_id else task.path
    told = " · ".join(filter(None, [task.variant, about]))
    return (
        format_html('{} <span class="oc-sub">{}</span>', name, clipped(told, 40)) if told else name
    )


def about() -> Coalesce:
    """What ``task_name`` wants as ``path``: the path of a task, or how its description begins."""
    described = Left(KT("payload__description"), 200)
    return Coalesce(KT("payload__path"), described, output_field=TextField())


def _badges(value: str, label: str, *, cancelling: bool) -> SafeString:
    shown = badge(value, label)
    return format_html("{} {}", shown, badge("cancelled", "Cancelling")) if cancelling else shown


def clipped(text: str, length: int = 80) -> SafeString:
    """One line of a text that may be long, with more of it in the tooltip."""
    return format_html(
        '<span class="oc-clip" dir="auto" title="{}">{}</span>',
        Truncator(text).chars(500),
        Truncator(text).chars(length),
    )


def bar(counts: Mapping[str, int]) -> SafeString:
    """Numbers of tasks by state as a picture, and in words for those who cannot see it."""
    total = sum(counts.values())
    shown = [(state, counts.get(state, 0)) for state in BAR_ORDER if counts.get(state)]
    words = ", ".join(f"{number:,} {state}" for state, number in shown) or "no tasks"
    position, pieces = 0.0, []
    for state, number in shown:
        width = 100 * number / total
        pieces.append((f"{position:.2f}", f"{width:.2f}", state))
        position += width
    return format_html(
        '<svg class="oc-bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" '
        'aria-label="{}"><title>{}</title>{}</svg>',
        words,
        words,
        format_html_join(
            "", '<rect x="{}" width="{}" height="8" class="oc-fill-{}"></rect>', pieces
        ),
    )


def progress(counts: Mapping[str, int], total: int) -> SafeString:
    """The bar with how many are finished, and how many of those failed."""
    finished = sum(
        counts.get(state, 0) for state in BAR_ORDER if state not in {"running", "queued"}
    )
    failed = counts.get(TaskState.FAILED, 0)
    return format_html(
        '<span class="oc-progress">{}<span class="oc-progress-text">{} of {}{}</span></span>',
        bar(counts),
        f"{finished:,}",
        f"{total:,}",
        format_html(' <b class="oc-text-failed">{} failed</b>', f"{failed:,}") if failed else "",
    )


def states(summary: Mapping[str, Any]) -> dict[str, int]:
    """The numbers by state of a batch's summary, which holds other things too."""
    return {state.value: summary[state] for state in BAR_ORDER if state in summary}


def pretty(value: Any, limit: int = 20_000) -> str:
    """JSON to be read by a person, cut at ``limit`` characters."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return text if len(text) <= limit else f"{text[:limit]}\n…"


def compact(value: Any) -> str:
    """JSON on one line."""
    return json.dumps(value, ensure_ascii=False, default=str)


def left(seconds: float | None) -> str:
    """How long until the end, where that can be told."""
    return "" if seconds is None else f"about {duration(timedelta(seconds=seconds))} left"


def moment(at: datetime | None) -> SafeString | str:
    """How long ago, or how far ahead, with the exact time in the tooltip."""
    if at is None:
        return NOTHING
    passed = timezone.now() - at
    words = f"{roughly(passed)} ago" if passed >= timedelta(0) else f"in {roughly(-passed)}"
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), exact(at), words)


def exact(at: datetime) -> str:
    """A time to the second, in the console's time zone, which it names."""
    return timezone.localtime(at).strftime("%Y-%m-%d %H:%M:%S %Z")


def took(started: datetime | None, finished: datetime | None) -> str:
    """How long something ran, or has been running."""
    if started is None:
        return NOTHING
    return duration((finished or timezone.now()) - started)


def roughly(length: timedelta) -> str:
    """``12 s``, ``3 min``, ``5 h``, ``40 d``: the largest unit only, rounded down."""
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def measured(seconds: float) -> str:
    """As ``duration``, of what an attempt measured."""
    return duration(timedelta(seconds=seconds))


def duration(length: timedelta) -> str:
    """``840 ms``, ``4.2 s``, ``3 min 10 s``, ``2 h 05 min``, ``4 d 3 h``."""
    seconds = max(length.total_seconds(), 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"

"""The first page: what runs, what waits, what failed, in a bounded number of queries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Sum
from django.db.models.functions import Now
from django.http import HttpRequest
from django.urls import reverse

from batches.admin import markup
from batches.admin.batches import count_page
from batches.admin.fleet import depths
from batches.models import Batch, Queue, Resource, Task, Worker
from batches.progress import shown_status
from batches.states import Failure, TaskState

DAY = timedelta(hours=24)
LATEST = 8


def context(request: HttpRequest, given: dict[str, Any]) -> dict[str, Any]:
    """``DASHBOARD_CALLBACK`` of the skin: adds to the index page what its user may see."""
    user = request.user
    if not user.has_perm("batches.view_batch"):
        return given
    tasks = Task.objects.visible_to(user)
    queued = depths(tasks)
    workers = Worker.objects.live().aggregate(slots=Sum("slots"), running=Sum("running"))
    listed = reverse("admin:batches_task_changelist")
    return given | {
        "title": "Dashboard",
        "console": True,
        "may_submit": user.has_perm("batches.add_batch"),
        "figures": [
            figure("Running", total(queued, TaskState.RUNNING), f"{listed}?state__exact=running"),
            figure("Waiting", total(queued, TaskState.QUEUED), f"{listed}?state__exact=queued"),
            figure("Failed in 24 hours", failed(tasks), f"{listed}?state__exact=failed"),
            figure(
                "Slots in use",
                workers["running"] or 0,
                reverse("admin:batches_worker_changelist"),
                of=workers["slots"] or 0,
            ),
        ],
        "queues": [
            {
                "row": queue,
                "badge": markup.badge("paused") if queue.paused_at else "",
                "waiting": f"{queued.get(queue.name, {}).get(TaskState.QUEUED, 0):,}",
                "running": f"{queued.get(queue.name, {}).get(TaskState.RUNNING, 0):,}",
            }
            for queue in Queue.objects.all()
        ],
        "workers": list(Worker.objects.live()[:LATEST]),
        "away": list(Resource.objects.filter(away_since__isnull=False)[:LATEST]),
        "batches": latest(user),
    }


def figure(label: str, number: int, url: str, of: int | None = None) -> dict[str, Any]:
    shown = f"{number:,}" if of is None else f"{number:,} of {of:,}"
    return {"label": label, "number": shown, "url": url}


def total(queued: dict[str, dict[str, int]], state: TaskState) -> int:
    return sum(states.get(state, 0) for states in queued.values())


def failed(tasks: Any) -> int:
    """Every reason is named so that the index over (failure, finished_at) answers."""
    return int(
        tasks.filter(
            state=TaskState.FAILED, failure__in=Failure.values, finished_at__gt=Now() - DAY
        ).count()
    )


def latest(user: Any) -> list[dict[str, Any]]:
    batches = list(
        Batch.objects.sealed()
        .visible_to(user)
        .select_related("workspace")
        .annotate(shown_status=shown_status())[:LATEST]
    )
    count_page(batches)
    return [
        {
            "row": batch,
            "name": markup.clipped(str(batch), 60),
            "status": markup.batch_badges(batch),
            "progress": markup.progress(markup.states(batch.counted), batch.total),
            "created": markup.moment(batch.created_at),
        }
        for batch in batches
    ]

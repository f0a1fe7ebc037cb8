"""Figures over everything the user may see, at a cost that does not grow with the history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from statistics import quantiles
from typing import Any, ClassVar

from django.db.models import CharField, Count, F, IntegerField, OuterRef, QuerySet, Subquery, Sum
from django.db.models.expressions import Combinable
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Coalesce, Now, Substr
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from batches.api.endpoint import Endpoint
from batches.api.fleet import QueueAnswer, depths
from batches.models import Batch, Queue, Share, Task, Worker
from batches.states import FINISHED, BatchState, TaskState

HOUR = timedelta(hours=1)
SAMPLE = 1000
"""Newest finished tasks whose times make the percentiles."""
MOST_WORKERS = 500


class WorkerAnswer(serializers.ModelSerializer[Worker]):
    class Meta:
        model = Worker
        fields = [
            "name", "backend", "state", "host", "queues", "kinds", "slots", "running", "sandbox",
            "started_at", "seen_at",
        ]  # fmt: skip


class Stats(Endpoint):
    """Totals, throughput of the last hour, live workers, and how long tasks wait and run."""

    permissions: ClassVar[dict[str, str]] = {"get": "view_task"}
    pagination_class = None
    serializer_class = WorkerAnswer

    def get(self, request: Request) -> Response:
        user = request.user
        workers = Worker.objects.live()[:MOST_WORKERS]
        return Response(
            {
                "totals": totals(user),
                "throughput": list(throughput(user)),
                "times": times(user),
                "workers": WorkerAnswer(workers, many=True).data,
                "queues": QueueAnswer(
                    Queue.objects.all(), many=True, context={"depth": depths()}
                ).data,
            }
        )


def totals(user: Any) -> dict[str, Any]:
    """Tasks by state, by kind and state, by queue and state."""
    by_state: Counter[str] = Counter({state.value: 0 for state in TaskState})
    by_kind: dict[str, Counter[str]] = {}
    by_queue: dict[str, Counter[str]] = {}
    for kind, queue, state, number in numbers(Batch.objects.visible_to(user)):
        by_state[state] += number
        by_kind.setdefault(kind, Counter())[state] += number
        by_queue.setdefault(queue, Counter())[state] += number
    return {"state": by_state, "kind": by_kind, "queue": by_queue}


def numbers(batches: QuerySet[Batch]) -> Iterator[tuple[str, str, str, int]]:
    """Kind, queue, state, and how many tasks of the batches; what is named twice is to be added.

    Those of finished batches are summed up from their summaries, one row a batch; only the tasks
    of open batches are counted, and of batches in several queues, of which there are few.
    """
    divided = Share.objects.filter(whole=False).values("batch")
    whole = batches.exclude(pk__in=divided)
    yield from _of_open_batches(whole.filter(state=BatchState.OPEN))
    yield from _of_done_batches(whole.filter(state=BatchState.DONE))
    yield from _of_divided_batches(batches.filter(pk__in=divided))


def _of_open_batches(batches: QuerySet[Batch]) -> Iterator[tuple[str, str, str, int]]:
    """Each batch's own tasks: joined, PostgreSQL may read the whole table of tasks."""
    for kind, queue, *counts in _sums(batches, {state: _count(state) for state in TaskState}):
        for state, number in zip(TaskState, counts, strict=True):
            if number:
                yield kind, queue, state.value, number


def _count(state: TaskState) -> Combinable:
    tasks = Task.objects.filter(batch=OuterRef("pk"), state=state).order_by().values("batch")
    # Of a column, PostgreSQL would fetch every row: it does not see that none of them is null.
    return Coalesce(Subquery(tasks.annotate(number=Count("*")).values("number")), 0)


def _of_done_batches(batches: QuerySet[Batch]) -> Iterator[tuple[str, str, str, int]]:
    stored = {state: Cast(KT(f"summary__{state}"), IntegerField()) for state in FINISHED}
    for kind, queue, *counts in _sums(batches, stored):
        for state, number in zip(FINISHED, counts, strict=True):
            yield kind, queue, state.value, number or 0


def _of_divided_batches(batches: QuerySet[Batch]) -> Iterator[tuple[str, str, str, int]]:
    tasks: QuerySet[Task] = Task.objects.filter(batch__in=batches).with_share()
    rows = tasks.order_by().values_list("kind", "batch__shares__queue", "state")
    yield from rows.annotate(number=Count("*"))


def _sums(batches: QuerySet[Batch], by_state: Mapping[TaskState, Combinable]) -> Iterable[Any]:
    """Kind, queue, and the sum for each state."""
    sums = {f"number_{state}": Sum(number) for state, number in by_state.items()}
    rows = batches.order_by().values("kind", "queue").annotate(**sums)
    return rows.values_list("kind", "queue", *sums)


def throughput(user: Any) -> Iterator[dict[str, Any]]:
    """Finished tasks a minute in the last hour; minutes without any are left out."""
    recent: QuerySet[Task] = Task.objects.visible_to(user).filter(finished_at__gt=Now() - HOUR)
    # Its first 16 characters are the minute on both databases. TruncMinute is a Python function
    # on SQLite, called for each row.
    minute = Substr(Cast("finished_at", CharField()), 1, 16)
    rows = (
        recent.order_by()
        .annotate(minute=minute)
        .values_list("minute", "state")
        .annotate(number=Count("pk"))
    )
    minutes: dict[str, Counter[str]] = {}
    for at, state, number in rows:
        minutes.setdefault(at, Counter())[state] += number
    for at, counts in sorted(minutes.items()):
        yield {"minute": f"{at.replace(' ', 'T')}:00Z"} | {
            state.value: counts[state] for state in FINISHED
        }


def times(user: Any) -> dict[str, Any]:
    """Percentiles in seconds over the newest finished tasks that ran.

    Waiting is from the submission to the last start: pauses and dependencies count.
    """
    ran: QuerySet[Task] = Task.objects.visible_to(user).filter(
        finished_at__isnull=False, started_at__isnull=False
    )
    newest = ran.order_by("-finished_at").annotate(
        wait=F("started_at") - F("created_at"), run=F("finished_at") - F("started_at")
    )
    sample = list(newest.values_list("wait", "run")[:SAMPLE])
    return {
        "sample": len(sample),
        "wait": percentiles([wait.total_seconds() for wait, _ in sample]),
        "run": percentiles([run.total_seconds() for _, run in sample]),
    }


def percentiles(seconds: list[float]) -> dict[str, float] | None:
    """The 50th, 90th and 99th; None of an empty list."""
    if not seconds:
        return None
    hundredths = quantiles(seconds * 2 if len(seconds) == 1 else seconds, n=100, method="inclusive")
    return {f"p{rank}": round(hundredths[rank - 1], 3) for rank in (50, 90, 99)}

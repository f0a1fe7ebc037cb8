"""Figures for Prometheus, read from the database when it asks.

Several web processes answer in turn, so none of them counts anything itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import ClassVar

from django.db.models import Count, F, Sum
from django.db.models.functions import Coalesce, Least, Now
from django.http import HttpResponse
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from rest_framework.request import Request

from batches.api.endpoint import Endpoint
from batches.api.renderers import Verbatim
from batches.api.stats import numbers
from batches.models import Attempt, Batch, Queue, Resource, Worker
from batches.queue.backlog import waiting
from batches.states import AttemptOutcome, BatchState, TaskState

PREFIX = "ollama_coder_"
MINUTE = timedelta(minutes=1)


class Metrics(Endpoint):
    """Counts over everybody's work, with no name of a batch, a user or a workspace in them."""

    permissions: ClassVar[dict[str, str]] = {"get": "view_task"}
    pagination_class = None
    renderer_classes = [Verbatim]

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(generate_latest(REGISTRY), content_type=CONTENT_TYPE_PLAIN_0_0_4)


class Figures(Collector):
    """One query a family or less, none of which reads the tasks of finished batches."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from of_tasks()
        yield from of_queues()
        yield from of_workers()
        yield attempts()
        yield gauge(
            "resources_away",
            "Resources such as models or servers that tasks wait for.",
            Resource.objects.filter(away_since__isnull=False).count(),
        )
        yield gauge(
            "batches_unsealed",
            "Batches that are still being inserted, or being deleted.",
            Batch.objects.filter(state=BatchState.OPEN, sealed_at__isnull=True).count(),
        )


REGISTRY = CollectorRegistry()
REGISTRY.register(Figures())


def gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, help_text, value)


def family(name: str, help_text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, help_text, labels=labels)


def of_tasks() -> Iterator[GaugeMetricFamily]:
    """By kind, queue and state; and what waits in each queue, 0 included."""
    tasks = family("tasks", "Tasks, the deleted ones not counted.", "kind", "queue", "state")
    depth = family("queue_depth", "Queued tasks, whatever they wait for.", "queue")
    paused = family("queue_paused", "1 while the queue is paused.", "queue")
    counts: Counter[tuple[str, str, str]] = Counter()
    for kind, queue, state, number in numbers(Batch.objects.sealed()):
        counts[kind, queue, state] += number
    queued: Counter[str] = Counter()
    for (kind, queue, state), number in sorted(counts.items()):
        tasks.add_metric([kind, queue, state], number)
        if state == TaskState.QUEUED:
            queued[queue] += number
    for queue, paused_at in Queue.objects.order_by("name").values_list("name", "paused_at"):
        depth.add_metric([queue], queued[queue])
        paused.add_metric([queue], paused_at is not None)
    yield from (tasks, depth, paused)


def of_queues() -> Iterator[GaugeMetricFamily]:
    oldest = family(
        "queue_oldest_waiting_seconds",
        "Age of the oldest batch with a task that a worker could claim now; left out without one.",
        "queue",
    )
    for queue, seconds in sorted(waiting().items()):
        oldest.add_metric([queue], seconds)
    yield oldest


def of_workers() -> Iterator[GaugeMetricFamily]:
    """Of those heard of lately. Short tasks wait in line at a slot: ``running`` counts them all."""
    sums = Worker.objects.live().aggregate(
        number=Count("pk"),
        most=Coalesce(Sum("slots"), 0),
        busy=Coalesce(Sum(Least(F("running"), F("slots"))), 0),
    )
    yield gauge("workers", "Live workers.", sums["number"])
    yield gauge("slots", "Tasks that live workers can run at once.", sums["most"])
    yield gauge("slots_busy", "Slots of live workers that have a task.", sums["busy"])


def attempts() -> GaugeMetricFamily:
    """Reads the last minute's rows and one more: ids grow in the order in which attempts end."""
    before = Attempt.objects.filter(finished_at__lte=Now() - MINUTE).order_by("-pk")
    # Asked first: to a planner an id that it does not know is one in the middle of the table.
    last = before.values_list("pk", flat=True).first() or 0
    recent = Attempt.objects.filter(pk__gt=last).order_by()
    found = dict(recent.values_list("outcome").annotate(number=Count("pk")))
    ended = family("attempts_last_minute", "Attempts that ended in the last minute.", "outcome")
    for outcome in AttemptOutcome:
        ended.add_metric([outcome.value], found.get(outcome.value, 0))
    return ended

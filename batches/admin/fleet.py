"""What tasks run on: queues with their limits, workers, and resources that are away."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import BooleanField, Count, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from batches import operations, registry
from batches.admin import markup
from batches.admin.base import ModelForm, ObservedAdmin, RecordedAdmin, actor_of
from batches.admin.skin import CheckboxInput
from batches.models import Queue, Resource, Task, Worker
from batches.querysets import WORKER_SILENCE, TaskQuerySet
from batches.states import UNFINISHED, BatchState, TaskState, WorkerState


class QueueForm(ModelForm):
    paused = forms.BooleanField(
        required=False,
        widget=CheckboxInput,
        help_text="Nothing more is started from this queue; what runs goes on.",
    )

    class Meta:
        model = Queue
        fields = ("priority", "concurrency_limit", "rate_limit")
        help_texts = {
            "priority": "0 to 10. Waiting tasks that took theirs from the queue are changed too.",
            "concurrency_limit": "Most tasks running at once over all workers; empty: no limit.",
            "rate_limit": "Most starts in any 60 seconds; empty: no limit.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["paused"] = self.instance.paused_at is not None


def depths(tasks: TaskQuerySet) -> dict[str, dict[str, int]]:
    """Queue → state → how many of ``tasks`` wait or run, in one query over open batches."""
    counted: dict[str, dict[str, int]] = {}
    rows = (
        tasks.filter(
            batch__state=BatchState.OPEN, batch__sealed_at__isnull=False, state__in=UNFINISHED
        )
        .with_share()
        .order_by()
        .values_list("batch__shares__queue", "state")
        .annotate(number=Count("*"))
    )
    for queue, state, number in rows:
        counted.setdefault(queue, {})[state] = number
    return counted


class QueueList(ChangeList):
    """The queues with how many tasks wait and run in each."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        counted = depths(Task.objects.all())
        self.result_list = list(self.result_list)
        for queue in self.result_list:
            queue.depth = counted.get(queue.name, {})


@admin.register(Queue)
class QueueAdmin(RecordedAdmin):
    form = QueueForm
    fields = ("priority", "paused", "concurrency_limit", "rate_limit")
    list_display = ("name", "served", "priority", "waiting", "running", "at_once", "per_minute")
    sortable_by = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if self.has_change_permission(request, obj):
            return self.fields
        return ("priority", "served", "concurrency_limit", "rate_limit")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if self.has_change_permission(request, obj) else ("served",)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[QueueList]:
        return QueueList

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        # The form has changed its own copy of the row already: operations compares with the stored.
        operations.change_queue(
            Queue.objects.get(pk=obj.pk),
            **{name: form.cleaned_data[name] for name in form.changed_data},
            by=actor_of(request),
        )

    @admin.display(description="State")
    def served(self, queue: Queue) -> SafeString:
        return markup.badge("paused") if queue.paused_at else markup.badge("open")

    @admin.display(description="Waiting")
    def waiting(self, queue: Any) -> str:
        return f"{queue.depth.get(TaskState.QUEUED, 0):,}"

    @admin.display(description="Running")
    def running(self, queue: Any) -> str:
        return f"{queue.depth.get(TaskState.RUNNING, 0):,}"

    @admin.display(description="Limit at once")
    def at_once(self, queue: Queue) -> int | None:
        return queue.concurrency_limit

    @admin.display(description="Limit per minute")
    def per_minute(self, queue: Queue) -> int | None:
        return queue.rate_limit


class WorkerList(ChangeList):
    """The workers, compared with all that there is to serve: most of them serve all of it."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        queues = set(Queue.objects.values_list("name", flat=True))
        kinds = set(registry.kinds())
        self.result_list = list(self.result_list)
        for worker in self.result_list:
            worker.reads_all = not worker.queues or queues <= set(worker.queues)
            worker.runs_all = kinds <= set(worker.kinds)


@admin.register(Worker)
class WorkerAdmin(ObservedAdmin):
    list_display = (
        "title",
        "health",
        "load",
        "queue_names",
        "kind_names",
        "backend",
        "sandbox_name",
        "seen",
        "claimed",
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[WorkerList]:
        return WorkerList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        heard = Q(seen_at__gt=Now() - WORKER_SILENCE) & ~Q(state=WorkerState.STOPPED)
        is_live = ExpressionWrapper(heard, output_field=BooleanField())
        workers: QuerySet[Any] = super().get_queryset(request).annotate(is_live=is_live)
        return workers

    @admin.display(description="Worker")
    def title(self, worker: Worker) -> SafeString:
        return format_html(
            '{}<span class="oc-sub">process {}</span>', markup.clipped(worker.name, 50), worker.pid
        )

    @admin.display(description="Health")
    def health(self, worker: Any) -> SafeString:
        if worker.is_live:
            draining = worker.state == WorkerState.DRAINING
            return markup.badge("draining") if draining else markup.badge("live")
        stopped = worker.state == WorkerState.STOPPED
        return markup.badge("stopped") if stopped else markup.badge("stale")

    @admin.display(description="Slots in use")
    def load(self, worker: Worker) -> str:
        return f"{worker.running} of {worker.slots}"

    @admin.display(description="Queues")
    def queue_names(self, worker: Any) -> SafeString | str:
        return "every queue" if worker.reads_all else markup.clipped(", ".join(worker.queues), 30)

    @admin.display(description="Kinds")
    def kind_names(self, worker: Any) -> SafeString | str:
        if worker.runs_all:
            return "every kind"
        return markup.clipped(", ".join(worker.kinds) or markup.NOTHING, 30)

    @admin.display(description="Sandbox")
    def sandbox_name(self, worker: Worker) -> str:
        return worker.sandbox or markup.NOTHING

    @admin.display(description="Heard of")
    def seen(self, worker: Worker) -> SafeString | str:
        return markup.moment(worker.seen_at)

    @admin.display(description="Last claim")
    def claimed(self, worker: Worker) -> SafeString | str:
        return markup.moment(worker.claimed_at)


@admin.register(Resource)
class ResourceAdmin(ObservedAdmin):
    nothing_yet = "Nothing is away: no task waits for a server or a model to come back."
    """Only what is away now: tasks that need it wait, and lose none of their budget."""

    list_display = ("title", "kind", "why", "away", "failed_probes", "next_probe")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(away_since__isnull=False)

    @admin.display(description="Resource")
    def title(self, resource: Resource) -> SafeString:
        return markup.clipped(resource.name, 60)

    @admin.display(description="Reason")
    def why(self, resource: Resource) -> SafeString:
        return markup.clipped(resource.reason, 120)

    @admin.display(description="Away since")
    def away(self, resource: Resource) -> SafeString | str:
        return markup.moment(resource.away_since)

    @admin.display(description="Failed probes")
    def failed_probes(self, resource: Resource) -> str:
        return f"{resource.probes:,}"

    @admin.display(description="Next probe")
    def next_probe(self, resource: Resource) -> SafeString | str:
        return markup.moment(resource.probe_after)

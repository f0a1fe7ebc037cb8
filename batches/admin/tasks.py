"""Tasks over all batches: a list that stays fast with a million rows, and their verbs."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from batches import operations, review
from batches.admin import downloads, markup, task_page
from batches.admin.batches import uuid_or_none
from batches.admin.filters import (
    KindFilter,
    OneBatchFilter,
    ReviewFilter,
    TaskQueueFilter,
    VariantFilter,
)
from batches.admin.keyset import KeysetChangeList
from batches.admin.verbs import ActedOnAdmin, Verb
from batches.audit import Actor
from batches.models import Task
from batches.states import UNFINISHED, TaskState


def apply(task: Task, *, by: Actor) -> None:
    operations.apply_patch(task, by=by)


def keep(task: Task, *, by: Actor) -> None:
    operations.keep_patch(task, by=by)


VERBS = (
    Verb(
        name="retry",
        label="Retry",
        done="Queued again",
        run=operations.retry_task,
        offered=lambda task: task.state in {TaskState.FAILED, TaskState.CANCELLED},
    ),
    Verb(
        name="cancel",
        label="Cancel",
        done="Cancelled",
        run=operations.cancel_task,
        offered=lambda task: task.state in UNFINISHED and not task.cancel_requested_at,
        warning="A task that waits is cancelled; a task that runs is stopped.",
    ),
    Verb(
        name="apply",
        label="Apply the patch",
        done="Its patch is being applied",
        run=apply,
        offered=review.is_open,
        warning="The patch is put into the workspace, where it is not taken back from.",
    ),
    Verb(
        name="keep",
        label="Keep this variant",
        done="Kept, and the others discarded",
        run=keep,
        offered=lambda task: bool(task.variant) and review.is_open(task),
        warning="Its patch is put into the workspace, and those that the other variants made of "
        "the same item are discarded.",
    ),
    Verb(
        name="discard",
        label="Discard the patch",
        done="Discarded the patch",
        run=operations.discard_patch,
        offered=review.is_open,
        warning="The patch stays among the task's files, but can no longer be applied from here.",
    ),
)

LISTED = (
    "custom_id",
    "variant",
    "kind",
    "state",
    "failure",
    "attempt",
    "failures",
    "max_attempts",
    "priority",
    "run_after",
    "waiting_for",
    "unmet_dependencies",
    "cancel_requested_at",
    "started_at",
    "finished_at",
    "batch__name",
    "batch__kind",
    "batch__paused_at",
    "batch__number",
)
"""Columns the list reads: payloads, results and errors may be large."""


@admin.register(Task)
class TaskAdmin(ActedOnAdmin):
    list_display = (
        "title",
        "batch_link",
        "kind",
        "state_badge",
        "reason",
        "tries",
        "priority",
        "started",
        "duration",
    )
    list_filter = (
        "state",
        "failure",
        KindFilter,
        TaskQueueFilter,
        ReviewFilter,
        OneBatchFilter,
        VariantFilter,
    )
    search_fields = ("custom_id",)
    search_help_text = "Beginning of an id, or a UUID"
    change_list_template = "console/change_list.html"
    page_template = "console/task.html"
    live_template = "console/task_live.html"
    verbs = VERBS
    operate_permission = "batches.change_task"

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path(
                "<uuid:pk>/artefacts/<int:attempt>/<path:name>",
                wrap(self.artefact_view),
                name="batches_task_artefact",
            ),
            path("<uuid:pk>/<slug:column>.json", wrap(self.json_view), name="batches_task_json"),
            *super().get_urls(),
        ]

    def artefact_view(self, request: HttpRequest, pk: object, attempt: int, name: str) -> Any:
        return downloads.artefact(self.visible_or_404(request, pk), attempt, name)

    def json_view(self, request: HttpRequest, pk: object, column: str) -> Any:
        return downloads.column(self.visible_or_404(request, pk), column)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return KeysetChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        tasks: QuerySet[Any] = self.visible_to(request).annotate(
            error_start=Left("error", 160), path=markup.about()
        )
        return tasks.select_related("batch").only(*LISTED)

    def page_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return self.visible_to(request).select_related(
            "batch__workspace", "batch__owner", "decision__applying", "decision__by"
        )

    def visible_to(self, request: HttpRequest) -> QuerySet[Any]:
        visible: QuerySet[Any] = Task.objects.visible_to(request.user)
        return visible.filter(batch__sealed_at__isnull=False)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        if as_id := uuid_or_none(term):
            return queryset.filter(Q(pk=as_id) | Q(batch=as_id)), False
        return queryset.filter(custom_id__startswith=term), False

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        return {
            **task_page.context(row, request.GET),
            "buttons": self.buttons(request, row),
        }

    @admin.display(description="Task")
    def title(self, task: Any) -> SafeString:
        return markup.task_name(task)

    @admin.display(description="Batch")
    def batch_link(self, task: Task) -> SafeString:
        return format_html(
            '<a class="oc-link" href="{}">{}</a>',
            reverse("admin:batches_batch_change", args=[task.batch_id]),
            markup.clipped(str(task.batch), 30),
        )

    @admin.display(description="State")
    def state_badge(self, task: Task) -> SafeString:
        return markup.task_badges(task)

    @admin.display(description="Failure")
    def reason(self, task: Any) -> SafeString | str:
        if not task.failure:
            return markup.clipped(task_page.waits_for(task), 40)
        return format_html(
            '<span class="oc-pair">{} {}</span>',
            markup.badge(task.failure, task.get_failure_display()),
            markup.clipped(task.error_start, 40),
        )

    @admin.display(description="Attempt")
    def tries(self, task: Task) -> SafeString:
        return format_html(
            '<span class="oc-nowrap" title="{} of {} allowed failures used">{} / {}</span>',
            task.failures,
            task.max_attempts,
            task.attempt,
            task.max_attempts,
        )

    @admin.display(description="Started")
    def started(self, task: Task) -> SafeString | str:
        return markup.moment(task.started_at)

    @admin.display(description="Duration")
    def duration(self, task: Task) -> str:
        return markup.took(task.started_at, task.finished_at)

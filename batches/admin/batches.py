"""Batches: the list with their progress, and what can be done to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import pluralize
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.http import require_http_methods, require_safe

from batches import operations
from batches.admin import batch_page, comparison, markup
from batches.admin.base import actor_of
from batches.admin.filters import KindFilter, QueueFilter, StatusFilter
from batches.admin.keyset import KeysetChangeList
from batches.admin.submitting import SubmitForm
from batches.admin.verbs import ActedOnAdmin, Verb
from batches.models import Batch
from batches.progress import shown_status
from batches.states import BatchState, TaskState
from batches.submission import FieldError, InvalidSubmission


def is_open(batch: Batch) -> bool:
    return batch.state == BatchState.OPEN


def has_tasks_to_retry(batch: Any) -> bool:
    """Of a batch with ``counted`` set. A cancelled one takes up its cancelled tasks again too."""
    if batch.cancel_requested_at:
        return not is_open(batch)
    return bool(batch.counted.get(TaskState.FAILED))


VERBS = (
    Verb(
        name="pause",
        label="Pause",
        done="Paused",
        run=operations.pause_batch,
        offered=lambda batch: is_open(batch) and not batch.paused_at,
    ),
    Verb(
        name="resume",
        label="Resume",
        done="Resumed",
        run=operations.resume_batch,
        offered=lambda batch: is_open(batch) and bool(batch.paused_at),
    ),
    Verb(
        name="retry",
        label="Retry failed",
        done="Queued {tasks} again",
        run=operations.retry_batch,
        offered=has_tasks_to_retry,
        nothing="It has no task to retry.",
    ),
    Verb(
        name="cancel",
        label="Cancel",
        done="Cancelled",
        run=operations.cancel_batch,
        offered=lambda batch: is_open(batch) and not batch.cancel_requested_at,
        warning="Tasks that wait are cancelled and tasks that run are stopped.",
    ),
)


def count_page(batches: Sequence[Any]) -> None:
    """Set ``counted`` on each: its summary, or its tasks counted in one query for all."""
    running = [batch.pk for batch in batches if batch.summary is None]
    counted = Batch.objects.filter(pk__in=running).only("pk").counts() if running else {}
    for batch in batches:
        batch.counted = batch.summary or counted.get(batch.pk, {})


class BatchList(KeysetChangeList):
    """One page with the tasks of its open batches counted in one query."""

    key = "number"

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        count_page(self.result_list)


@admin.register(Batch)
class BatchAdmin(ActedOnAdmin):
    list_display = (
        "title",
        "kind",
        "status",
        "progress",
        "workspace_name",
        "owner_name",
        "created",
        "duration",
    )
    nothing_yet = "No batch yet."
    add_label = "Submit a batch"
    list_filter = (StatusFilter, KindFilter, "backend", QueueFilter)
    search_fields = ("name",)
    search_help_text = "Part of a name, or an id"
    change_list_template = "console/change_list.html"
    page_template = "console/batch.html"
    live_template = "console/batch_live.html"
    verbs = VERBS
    operate_permission = "batches.change_batch"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("batches.add_batch"))

    @method_decorator(require_http_methods(["GET", "HEAD", "POST"]))
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The form that submits a batch: all that is wrong is shown before anything is stored."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        by = actor_of(request)
        form = SubmitForm(by.user, request.POST or None, request.FILES or None)
        errors: list[FieldError] = []
        if form.is_valid():
            try:
                with form.wanted() as wanted:
                    batch = operations.submit(by.user, wanted, by=by)
            except InvalidSubmission as refused:
                errors = refused.errors
            else:
                told = f"Submitted with {batch.total:,} task{pluralize(batch.total)}: {batch}."
                self.message_user(request, told, messages.SUCCESS)
                return HttpResponseRedirect(reverse("admin:batches_batch_change", args=[batch.pk]))
        context = {
            "title": "Submit a batch",
            "form": form,
            "errors": errors,
            "uploaded": bool(request.FILES),
        }
        return self.render(request, "console/submit.html", context)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return BatchList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        visible = Batch.objects.sealed().visible_to(request.user)
        batches: QuerySet[Any] = visible.annotate(shown_status=shown_status())
        return batches.select_related("workspace", "owner")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        found = Q(name__icontains=term)
        if as_id := uuid_or_none(term):
            found |= Q(pk=as_id)
        return queryset.filter(found), False

    def get_urls(self) -> list[URLPattern]:
        route = path(
            "<uuid:pk>/comparison/",
            self.admin_site.admin_view(self.comparison_view),
            name="batches_batch_comparison",
        )
        return [route, *super().get_urls()]

    @method_decorator(require_safe)
    def comparison_view(self, request: HttpRequest, pk: object) -> HttpResponse:
        """The variants of one batch, item by item."""
        batch = self.visible_or_404(request, pk)
        may_decide = request.user.has_perm("batches.change_task")
        context = comparison.page(batch, request.GET.get("after"), may_decide=may_decide)
        return self.render(request, "console/comparison.html", context)

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        counted = "live" not in request.GET or row.total <= comparison.LIVELY
        return {
            **batch_page.context(row, request.user),
            "comparison": comparison.panel(row) if counted else None,
            "buttons": self.buttons(request, row),
        }

    @admin.display(description="Batch")
    def title(self, batch: Batch) -> SafeString:
        return markup.clipped(str(batch))

    @admin.display(description="Status")
    def status(self, batch: Any) -> SafeString:
        return markup.batch_badges(batch)

    @admin.display(description="Progress")
    def progress(self, batch: Any) -> SafeString:
        return markup.progress(markup.states(batch.counted), batch.total)

    @admin.display(description="Workspace")
    def workspace_name(self, batch: Batch) -> str | None:
        return batch.workspace.name if batch.workspace else None

    @admin.display(description="Owner")
    def owner_name(self, batch: Batch) -> SafeString | None:
        return markup.clipped(batch.owner.get_username(), 24) if batch.owner else None

    @admin.display(description="Created")
    def created(self, batch: Batch) -> SafeString | str:
        return markup.moment(batch.created_at)

    @admin.display(description="Duration")
    def duration(self, batch: Batch) -> str:
        return markup.took(batch.started_at, batch.finished_at)


def uuid_or_none(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None

"""What every page of the console shares: visibility, nothing edited by hand, nothing counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.contrib.admin import ShowFacets
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.decorators import method_decorator
from django.utils.text import Truncator
from django.views.decorators.http import require_safe

from batches.admin.markup import NOTHING
from batches.admin.skin import ModelAdmin
from batches.audit import Actor, Via

if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm


def actor_of(request: HttpRequest) -> Actor:
    """Who asks, for the history of what they change."""
    return Actor(cast("User", request.user), Via.ADMIN)


class ConsoleAdmin(ModelAdmin):
    """A list of 25 rows a page that counts no facets."""

    nothing_yet = ""
    """What an empty list says."""
    add_label = ""
    """Of its button; empty: "Add one"."""

    list_per_page = 25
    empty_value_display = NOTHING
    show_facets = ShowFacets.NEVER
    list_disable_select_all = True


class RecordedAdmin(ConsoleAdmin):
    """Forms that save through ``operations``, which has written the history: no second entry."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return None

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return None

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        return None


class ObservedAdmin(ConsoleAdmin):
    """Rows that the queue writes: they can be looked at, and acted on through ``operations``."""

    page_template = ""
    """A page of its own instead of the form; empty where the list says everything."""
    live_template = ""
    """The parts of it that change: often while ``live`` of its context is true, seldom after."""
    sortable_by = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_list_display_links(self, request: HttpRequest, list_display: Any) -> Any:
        """No links where there is no page."""
        return super().get_list_display_links(request, list_display) if self.page_template else None

    def page_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """What a page may show: all that its user may see, with what the page needs of each."""
        return self.get_queryset(request)

    def visible_or_404(self, request: HttpRequest, pk: object) -> Any:
        """One row, unless the user may not see it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            return self.page_queryset(request).get(pk=self.opts.pk.to_python(pk))
        except (self.model.DoesNotExist, ValueError, ValidationError) as error:
            raise Http404(f"There is no {self.opts.verbose_name} {pk} that you may see.") from error

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """What ``page_template`` shows of the row."""
        raise NotImplementedError

    @method_decorator(require_safe)
    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if not self.page_template:
            raise Http404
        row = self.visible_or_404(request, unquote(object_id))
        context = {"title": name_of(row), **self.page_context(request, row)}
        if self.live_template and "live" in request.GET:
            answer = TemplateResponse(request, self.live_template, context)
            answer["X-Live"] = "on" if context["live"] else "off"
            return answer
        return self.render(request, self.page_template, context)

    def render(
        self, request: HttpRequest, template: str, context: dict[str, Any]
    ) -> TemplateResponse:
        """A page under the admin's frame."""
        request.current_app = self.admin_site.name
        frame = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "has_view_permission": True,
        }
        return TemplateResponse(request, template, {**frame, **context})


def name_of(row: object) -> str:
    """What a row is called in titles and messages."""
    return Truncator(str(row)).chars(60)

"""Rows that can be checked: several at once from their list, one from its page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST

from batches.admin.base import RecordedAdmin


class CheckedAdmin(RecordedAdmin):
    """Whoever may change a row may have it checked, which changes nothing."""

    change_form_template = "console/change_form.html"
    check_label: ClassVar[str]

    def look_at(self, rows: Iterable[Any]) -> Iterator[tuple[bool, str]]:
        """Of each row, is it as it should be, and what is to be said of it?"""
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        route = path(
            "<uuid:pk>/check/",
            self.admin_site.admin_view(self.check_view),
            name=f"{self.opts.app_label}_{self.opts.model_name}_check",
        )
        return [route, *super().get_urls()]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        if not self.has_change_permission(request):
            return {}
        return {"check": (type(self).check_selected, "check", self.check_label)}

    def check_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        if not self.has_change_permission(request):
            raise PermissionDenied
        self._tell(request, queryset[: self.list_per_page])

    @method_decorator(require_POST)
    def check_view(self, request: HttpRequest, pk: object) -> HttpResponse:
        """Of the row as it is stored: what a form holds besides is not looked at."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_queryset(request).filter(pk=pk).first()
        if row is None:
            raise Http404(f"There is no {self.opts.verbose_name} {pk} that you may see.")
        if not self.has_change_permission(request, row):
            raise PermissionDenied
        self._tell(request, [row])
        page = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return HttpResponseRedirect(reverse(page, args=[row.pk]))

    def _tell(self, request: HttpRequest, rows: Iterable[Any]) -> None:
        for well, said in self.look_at(rows):
            self.message_user(request, said, messages.SUCCESS if well else messages.ERROR)

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        obj = kwargs.get("obj")
        if obj is not None and self.has_change_permission(request, obj):
            address = f"admin:{self.opts.app_label}_{self.opts.model_name}_check"
            context |= {
                "check_label": self.check_label,
                "check_url": reverse(address, args=[obj.pk]),
            }
        return super().render_change_form(request, context, *args, **kwargs)

"""Change lists that page by key: every page costs the same, and nothing is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest

OLDER, NEWER = "before", "after"
"""Query parameters: the key that the page's rows come before (are older than) or after."""


class KeysetChangeList(ChangeList):
    """Newest first by ``key``, a unique column; other orders would sort the whole table."""

    key = "pk"
    older = ""
    newer = ""
    """Query strings of the neighbouring pages; empty where there is none."""

    if TYPE_CHECKING:
        filter_params: dict[str, Any]

    def get_filters_params(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Without the keys, which are no filters; following a filter's link drops them too."""
        for lookup_params in (self.params, self.filter_params):
            for key in (OLDER, NEWER):
                lookup_params.pop(key, None)
        return super().get_filters_params(params)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        return [f"-{self.key}"]

    def get_ordering_field_columns(self) -> dict[int, Any]:
        return {}

    def get_results(self, request: HttpRequest) -> None:
        older, newer = request.GET.get(OLDER), request.GET.get(NEWER)
        try:
            rows, more = self._page(older, newer)
        except (ValueError, ValidationError) as error:
            raise IncorrectLookupParameters(error) from error
        if rows:
            if more if newer else older:
                self.newer = self.get_query_string({NEWER: self._key(rows[0])})
            if newer or more:
                self.older = self.get_query_string({OLDER: self._key(rows[-1])})
        self.result_list = rows
        self.result_count = len(rows)
        self.full_result_count = len(rows)
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = False
        self.multi_page = False
        self.paginator = Paginator(rows, self.list_per_page)

    def _page(self, older: str | None, newer: str | None) -> tuple[list[Any], bool]:
        """The rows of the page, and whether there are more in the direction of travel."""
        size = self.list_per_page
        if newer:
            found = list(
                self.queryset.filter(**{f"{self.key}__gt": newer}).order_by(self.key)[: size + 1]
            )
            return found[:size][::-1], len(found) > size
        queryset = self.queryset.filter(**{f"{self.key}__lt": older}) if older else self.queryset
        found = list(queryset[: size + 1])
        return found[:size], len(found) > size

    def _key(self, row: Any) -> str:
        return str(getattr(row, self.key))

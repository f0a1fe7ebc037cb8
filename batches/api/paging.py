"""Cursor paging: every page costs the same, however deep."""

from __future__ import annotations

import re
from typing import Any

from django.core.exceptions import ValidationError as InvalidValue
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.views import APIView


class CursorPages(CursorPagination):
    """DRF's, with a clean 400 for a cursor or a size nobody was given."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (InvalidValue, ValueError, NotFound):
            raise ValidationError({self.cursor_query_param: ["Invalid cursor."]}) from None

    def get_page_size(self, request: Request) -> int:
        asked = request.query_params.get(self.page_size_query_param)
        if asked is None:
            return self.page_size
        if not re.fullmatch(r"[0-9]{1,3}", asked) or not 1 <= int(asked) <= self.max_page_size:
            message = f"Must be a number from 1 to {self.max_page_size}."
            raise ValidationError({self.page_size_query_param: [message]})
        return int(asked)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """A page in the OpenAPI document; DRF's says null in the words of OpenAPI 3.0."""
        address = {"type": ["string", "null"], "format": "uri"}
        properties = {"next": address, "previous": address, "results": schema}
        return {"type": "object", "properties": properties, "required": list(properties)}


class NewestFirst(CursorPages):
    ordering = "-pk"


class NewestBatchesFirst(CursorPages):
    ordering = "-number"


class InSubmissionOrder(CursorPages):
    ordering = ("position", "variant")


class InItemOrder(CursorPages):
    """Of items, each of which may be several tasks."""

    ordering = "position"


class InLogOrder(CursorPages):
    ordering = "pk"
    page_size = 200

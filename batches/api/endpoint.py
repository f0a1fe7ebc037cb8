"""What all endpoints share."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar, cast

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django_filters.rest_framework import FilterSet
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.generics import GenericAPIView, get_object_or_404
from rest_framework.request import Request, override_method
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.settings import api_settings
from rest_framework.viewsets import GenericViewSet

from batches.api.body import is_chunked
from batches.api.paging import CursorPages
from batches.api.problems import LengthRequired
from batches.audit import Actor, Via

UUID_PATTERN = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


class Endpoint(GenericAPIView[Any]):
    """Permissions by name, and a body that is read or refused, never taken for an empty one."""

    permissions: ClassVar[dict[str, str]]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method not in self.allowed_methods or request.method == "OPTIONS":
            return  # 405 follows, whatever else is wrong; and OPTIONS reads nothing
        self._refuse_unknown_parameters(request)
        if is_chunked(request.META) and not self.takes_chunks(request):
            raise LengthRequired

    def takes_chunks(self, request: Request) -> bool:
        """Whether a body is read to its end where no length says where that is."""
        return False

    def _refuse_unknown_parameters(self, request: Request) -> None:
        """A misspelt filter must not answer everything."""
        known = {str(api_settings.URL_FORMAT_OVERRIDE)}
        if filterset := getattr(self, "filterset_class", None):
            known |= set(filterset.base_filters)
        if isinstance(self.paginator, CursorPages):
            known |= {self.paginator.cursor_query_param, self.paginator.page_size_query_param}
        if unknown := request.query_params.keys() - known:
            there_are = f"Unknown parameter: there are {', '.join(sorted(known))}."
            raise ValidationError({name: [there_are] for name in sorted(unknown)})

    def http_method_not_allowed(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """A person who opens an address that only takes POST is shown its form, not an error."""
        if request.method == "GET" and request.accepted_renderer.format == "api":
            with override_method(self, request, "POST") as posting, suppress(APIException):
                if "POST" in self.allowed_methods:
                    self.check_permissions(posting)
                    return Response({"detail": "Nothing to read here: the form below sends POST."})
        return super().http_method_not_allowed(request, *args, **kwargs)

    @property
    def actor(self) -> Actor:
        """Who asks, for the history of what they change."""
        return Actor(cast("User", self.request.user), Via.API)

    def read(self, serializer_class: type[BaseSerializer[Any]]) -> Any:
        """The validated body.

        Raises:
            ValidationError: names each wrong field.
        """
        serializer = serializer_class(data=self.request.data, context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data


class EndpointSet(GenericViewSet[Any], Endpoint):
    """Serializers and filters by action."""

    serializers: ClassVar[dict[str, type[BaseSerializer[Any]]]]
    filters: ClassVar[dict[str, type[FilterSet]]] = {}

    @property
    def filterset_class(self) -> type[FilterSet] | None:
        return self.filters.get(self.action)

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        if self.action == "metadata":  # OPTIONS, which asks for each method in turn
            return self.serializers[self.action_map[str(self.request.method).lower()]]
        return self.serializers[self.action]

    def get_object(self) -> Any:
        """The row of the address. The query parameters are of what hangs below it."""
        wanted = {self.lookup_field: self.kwargs[self.lookup_field]}
        return get_object_or_404(self.get_queryset(), **wanted)

    def page(self, rows: QuerySet[Any]) -> list[Any]:
        """The asked page of those rows that the query parameters let through."""
        return list(self.paginate_queryset(self.filter_queryset(rows)) or [])

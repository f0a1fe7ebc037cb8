"""The MCP servers that operations are carried out on."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.validators import RegexValidator
from django.db.models import QuerySet
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.serializers import BaseSerializer

from batches import operations
from batches.api.changes import Nothing
from batches.api.endpoint import EndpointSet
from batches.api.fields import Boolean, Integer, Listing, StrictSerializer, Text
from batches.api.fleet import ABSOLUTE, ByName, GroupNames, Variables, groups_named
from batches.mcp_servers import HEADER
from batches.models import McpServer
from batches.models.fleet import NAME
from batches.querysets import is_admin
from batches.supervision.checking import check


class ServerAnswer(serializers.ModelSerializer[McpServer]):
    """Values of variables and headers may be secrets: those who can change them see them."""

    variables = serializers.SerializerMethodField()
    headers = serializers.SerializerMethodField()
    groups = serializers.SlugRelatedField[Any]("name", many=True, read_only=True)

    class Meta:
        model = McpServer
        fields = [
            "id", "name", "transport", "command", "url", "variables", "headers", "secrets",
            "folders", "network", "tools", "timeout", "connect_timeout", "enabled", "groups",
            "created_at",
        ]  # fmt: skip

    def get_variables(self, server: McpServer) -> dict[str, str]:
        return self._shown(server.variables)

    def get_headers(self, server: McpServer) -> dict[str, str]:
        return self._shown(server.headers)

    def _shown(self, values: dict[str, str]) -> dict[str, str]:
        return values if is_admin(self.context["request"].user) else dict.fromkeys(values, "…")


ADDRESS = RegexValidator(
    r"\A(https?://[^\x00]+)?\Z", "Must be an address such as https://example.org/mcp."
)
ONE_LINE = RegexValidator(r"\A[^\x00\r\n]*\Z", "Must not hold a line break.")
REFERENCE = RegexValidator(r"\A(env:[^\x00]|file:/)[^\x00]*\Z", "Must be env:NAME or file:/PATH.")


class Headers(Variables):
    child = Text(allow_blank=True, max_length=10_000, validators=[ONE_LINE])
    names = HEADER


class Secrets(Variables):
    child = Text(max_length=10_000, validators=[REFERENCE])
    names = HEADER


class ServerChange(StrictSerializer):
    command = Listing(child=Text(max_length=4000), max_length=100, required=False)
    url = Text(max_length=2000, allow_blank=True, required=False, validators=[ADDRESS])
    variables = Variables(required=False)
    headers = Headers(required=False)
    secrets = Secrets(required=False)
    folders = Listing(
        child=Text(max_length=1000, validators=[ABSOLUTE]), max_length=100, required=False
    )
    network = Boolean(required=False)
    tools = Listing(child=Text(max_length=128), max_length=1000, allow_null=True, required=False)
    timeout = Integer(min_value=1, max_value=3300, required=False)
    connect_timeout = Integer(min_value=1, max_value=300, required=False)
    enabled = Boolean(required=False)
    groups = GroupNames(max_length=100, required=False)

    def validate_groups(self, names: list[str]) -> Any:
        return groups_named(names)


class NewServer(ServerChange):
    name = Text(max_length=64, validators=[NAME])


class CheckAnswer(serializers.Serializer[Any]):
    ok = serializers.BooleanField()
    reason = serializers.CharField(allow_blank=True)
    seconds = serializers.FloatField()
    tools = serializers.IntegerField(allow_null=True, help_text="How many it has.")


class McpServers(EndpointSet):
    """Servers by name. The built-in one is always there and is not among them."""

    lookup_field = "name"
    lookup_value_regex = "[a-z0-9][a-z0-9._-]*"
    pagination_class = ByName
    permissions: ClassVar[dict[str, str]] = {
        "list": "view_mcpserver",
        "retrieve": "view_mcpserver",
        "create": "add_mcpserver",
        "partial_update": "change_mcpserver",
        "destroy": "delete_mcpserver",
        "check": "change_mcpserver",
    }
    serializers: ClassVar[dict[str, type[BaseSerializer[Any]]]] = {
        "list": ServerAnswer,
        "retrieve": ServerAnswer,
        "create": NewServer,
        "partial_update": ServerChange,
        "destroy": Nothing,
        "check": Nothing,
    }

    def get_queryset(self) -> QuerySet[McpServer]:
        visible: QuerySet[McpServer] = McpServer.objects.visible_to(self.request.user)
        return visible.prefetch_related("groups")

    def list(self, request: Request) -> Response:
        servers = self.page(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(servers, many=True).data)

    def create(self, request: Request) -> Response:
        server = operations.add_mcp_server(**self.read(NewServer), by=self.actor)
        answer = ServerAnswer(server, context=self.get_serializer_context()).data
        url = reverse("mcp-server-detail", args=[server.name], request=request)
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Location": url})

    def retrieve(self, request: Request, name: str) -> Response:
        return Response(self._answer())

    def partial_update(self, request: Request, name: str) -> Response:
        operations.change_mcp_server(self.get_object(), **self.read(ServerChange), by=self.actor)
        return Response(self._answer())

    def destroy(self, request: Request, name: str) -> Response:
        operations.remove_mcp_server(self.get_object(), by=self.actor)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=True, methods=["post"])
    def check(self, request: Request, name: str) -> Response:
        self.read(Nothing)
        return Response(CheckAnswer(check(self.get_object())).data)

    def _answer(self) -> Any:
        return ServerAnswer(self.get_object(), context=self.get_serializer_context()).data

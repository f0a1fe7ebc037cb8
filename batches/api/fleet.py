"""Queues and workspaces: what tasks run on."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import Group
from django.core.validators import RegexValidator
from django.db.models import Count, QuerySet
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.serializers import BaseSerializer

from batches import operations
from batches.api.changes import Nothing, QueueChange
from batches.api.endpoint import EndpointSet
from batches.api.fields import Listing, StrictSerializer, Text
from batches.api.paging import CursorPages
from batches.models import Queue, Task, Workspace
from batches.models.fleet import NAME
from batches.querysets import is_admin
from batches.states import TaskState
from batches.workspaces import VARIABLE


class QueueAnswer(serializers.ModelSerializer[Queue]):
    """Wants ``depth`` in its context: (queue, state) → tasks."""

    paused = serializers.SerializerMethodField()
    depth = serializers.SerializerMethodField()
    running = serializers.SerializerMethodField()

    class Meta:
        model = Queue
        fields = [
            "name", "priority", "paused", "concurrency_limit", "rate_limit", "depth", "running",
        ]  # fmt: skip

    def get_paused(self, queue: Queue) -> bool:
        return queue.paused_at is not None

    def get_depth(self, queue: Queue) -> int:
        return self._count(queue, TaskState.QUEUED)

    def get_running(self, queue: Queue) -> int:
        return self._count(queue, TaskState.RUNNING)

    def _count(self, queue: Queue, state: TaskState) -> int:
        number: int = self.context["depth"].get((queue.pk, state.value), 0)
        return number


def depths() -> dict[tuple[str, str], int]:
    """Unfinished tasks by queue and state, of everybody: they all wait in the same line."""
    counted = (
        Task.objects.unfinished()
        .with_share()
        .order_by()
        .values_list("batch__shares__queue", "state")
        .annotate(number=Count("pk"))
    )
    return {(queue, state): number for queue, state, number in counted}


class Queues(EndpointSet):
    """The queues, how deep they are, and how they are served."""

    lookup_field = "name"
    lookup_value_regex = "[a-z0-9_]+"
    pagination_class = None
    permissions: ClassVar[dict[str, str]] = {
        "list": "view_queue",
        "retrieve": "view_queue",
        "partial_update": "change_queue",
    }
    serializers: ClassVar[dict[str, type[BaseSerializer[Any]]]] = {
        "list": QueueAnswer,
        "retrieve": QueueAnswer,
        "partial_update": QueueChange,
    }

    def get_queryset(self) -> QuerySet[Queue]:
        return Queue.objects.all()

    def list(self, request: Request) -> Response:
        queues = QueueAnswer(self.get_queryset(), many=True, context=self._context())
        return Response({"results": queues.data})

    def retrieve(self, request: Request, name: str) -> Response:
        return Response(self._answer())

    def partial_update(self, request: Request, name: str) -> Response:
        operations.change_queue(self.get_object(), **self.read(QueueChange), by=self.actor)
        return Response(self._answer())

    def _answer(self) -> Any:
        return QueueAnswer(self.get_object(), context=self._context()).data

    def _context(self) -> dict[str, Any]:
        return {**self.get_serializer_context(), "depth": depths()}


class WorkspaceAnswer(serializers.ModelSerializer[Workspace]):
    """The values of variables may be secrets: they are shown to those who can change them."""

    environment = serializers.SerializerMethodField()
    groups = serializers.SlugRelatedField[Any]("name", many=True, read_only=True)

    class Meta:
        model = Workspace
        fields = ["id", "name", "path", "environment", "groups", "created_at"]

    def get_environment(self, workspace: Workspace) -> dict[str, Any]:
        environment: dict[str, Any] = workspace.environment
        if is_admin(self.context["request"].user):
            return environment
        return environment | {"variables": dict.fromkeys(environment.get("variables", {}), "…")}


class Variables(serializers.DictField):
    """Texts by name. What else may be wrong with them is looked for where they are stored."""

    child = Text(allow_blank=True, max_length=10_000)
    names = VARIABLE


ABSOLUTE = RegexValidator(r"\A/[^\x00]*\Z", "Must be an absolute path.")
SEARCHED = RegexValidator(r"\A/[^\x00:]*\Z", "Must be an absolute path without a colon.")
MAYBE_ABSOLUTE = RegexValidator(r"\A(/[^\x00]*)?\Z", "Must be an absolute path.")


class EnvironmentFields(StrictSerializer):
    virtualenv = Text(
        allow_blank=True, max_length=1000, required=False, validators=[MAYBE_ABSOLUTE]
    )
    path = Listing(
        child=Text(max_length=1000, validators=[SEARCHED]), max_length=100, required=False
    )
    variables = Variables(required=False)


class GroupNames(Listing):
    child = Text(max_length=150)

    def get_attribute(self, instance: Any) -> list[str]:
        return [group.name for group in instance.groups.all()]


def groups_named(names: list[str]) -> list[Group]:
    """The groups of these names; refuses what is not one."""
    found = {group.name: group for group in Group.objects.filter(name__in=names)}
    if unknown := [name for name in names if name not in found]:
        raise serializers.ValidationError(f"There is no group {', '.join(unknown)}.")
    return list(found.values())


class WorkspaceChange(StrictSerializer):
    path = Text(max_length=1000, required=False)
    environment = EnvironmentFields(required=False)
    groups = GroupNames(max_length=100, required=False)

    def validate_groups(self, names: list[str]) -> list[Group]:
        return groups_named(names)


class NewWorkspace(WorkspaceChange):
    name = Text(max_length=64, validators=[NAME])
    path = Text(max_length=1000)


class ByName(CursorPages):
    ordering = "name"


class Workspaces(EndpointSet):
    """The folders that tasks work in."""

    lookup_field = "name"
    lookup_value_regex = "[a-z0-9][a-z0-9._-]*"
    pagination_class = ByName
    permissions: ClassVar[dict[str, str]] = {
        "list": "view_workspace",
        "retrieve": "view_workspace",
        "create": "add_workspace",
        "partial_update": "change_workspace",
        "destroy": "delete_workspace",
    }
    serializers: ClassVar[dict[str, type[BaseSerializer[Any]]]] = {
        "list": WorkspaceAnswer,
        "retrieve": WorkspaceAnswer,
        "create": NewWorkspace,
        "partial_update": WorkspaceChange,
        "destroy": Nothing,
    }

    def get_queryset(self) -> QuerySet[Workspace]:
        visible: QuerySet[Workspace] = Workspace.objects.visible_to(self.request.user)
        return visible.prefetch_related("groups")

    def list(self, request: Request) -> Response:
        workspaces = self.page(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(workspaces, many=True).data)

    def create(self, request: Request) -> Response:
        workspace = operations.add_workspace(**self.read(NewWorkspace), by=self.actor)
        answer = WorkspaceAnswer(workspace, context=self.get_serializer_context()).data
        url = reverse("workspace-detail", args=[workspace.name], request=request)
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Location": url})

    def retrieve(self, request: Request, name: str) -> Response:
        return Response(self._answer())

    def partial_update(self, request: Request, name: str) -> Response:
        operations.change_workspace(self.get_object(), **self.read(WorkspaceChange), by=self.actor)
        return Response(self._answer())

    def destroy(self, request: Request, name: str) -> Response:
        operations.remove_workspace(self.get_object(), by=self.actor)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _answer(self) -> Any:
        return WorkspaceAnswer(self.get_object(), context=self.get_serializer_context()).data

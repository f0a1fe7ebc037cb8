"""Tasks: watch, change, cancel, retry, read what they left behind."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import Prefetch, QuerySet
from django.http import FileResponse, Http404
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.serializers import BaseSerializer

from batches import operations
from batches.api.answers import LogLineAnswer, TaskAnswer
from batches.api.changes import Nothing, TaskChange
from batches.api.endpoint import UUID_PATTERN, EndpointSet
from batches.api.filters import ArtefactFilter, LogFilter, TaskFilter
from batches.api.paging import InLogOrder, NewestFirst
from batches.api.renderers import JsonLines, Verbatim
from batches.models import Artefact, Decision, Dependency, LogLine, Task
from batches.querysets import TaskQuerySet

TRANSCRIPT = "transcript.jsonl"
SAID = ("prompt", "turn", "tool", "check", "verdict")
"""Events of the log that tell how an agent and its models got on."""
ARTEFACT_NAME = "[A-Za-z0-9._-]{1,100}"


def visible_tasks(user: Any) -> TaskQuerySet:
    """The user's tasks, with all that an answer needs."""
    dependencies = (
        Dependency.objects.select_related("predecessor")
        .only("task_id", "predecessor__custom_id")
        .order_by("predecessor__position")
    )
    visible: TaskQuerySet = Task.objects.visible_to(user)
    described = visible.filter(batch__sealed_at__isnull=False).with_queue()
    # Not the applying task's payload, which holds the patch.
    decisions = Decision.objects.select_related("by", "applying").only(
        "task_id", "attempt", "verb", "at", "by__username", "applying__state"
    )
    return described.prefetch_related(
        "attempts", "artefacts", Prefetch("dependencies", dependencies),
        Prefetch("decision", decisions),
    )  # fmt: skip


class Tasks(EndpointSet):
    """Tasks of all the batches that you may see."""

    lookup_value_regex = UUID_PATTERN
    pagination_class = NewestFirst
    permissions: ClassVar[dict[str, str]] = {
        "list": "view_task",
        "retrieve": "view_task",
        "partial_update": "change_task",
        "retry": "change_task",
        "cancel": "change_task",
        "apply": "change_task",
        "discard": "change_task",
        "keep": "change_task",
        "log": "view_logline",
        "artefact": "view_artefact",
        "transcript": "view_logline",
    }
    serializers: ClassVar[dict[str, type[BaseSerializer[Any]]]] = {
        "list": TaskAnswer,
        "retrieve": TaskAnswer,
        "partial_update": TaskChange,
        "retry": Nothing,
        "cancel": Nothing,
        "apply": Nothing,
        "discard": Nothing,
        "keep": Nothing,
        "log": LogLineAnswer,
        "transcript": LogLineAnswer,
    }
    filters: ClassVar[dict[str, Any]] = {
        "list": TaskFilter,
        "log": LogFilter,
        "transcript": LogFilter,
        "artefact": ArtefactFilter,
    }

    def get_queryset(self) -> TaskQuerySet:
        return visible_tasks(self.request.user)

    def list(self, request: Request) -> Response:
        tasks = self.page(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(tasks, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(self._answer())

    def partial_update(self, request: Request, pk: str) -> Response:
        operations.change_task(self.get_object(), **self.read(TaskChange), by=self.actor)
        return Response(self._answer())

    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        task = self.get_object()
        self.read(Nothing)
        operations.retry_task(task, by=self.actor)
        return Response(self._answer(), status=status.HTTP_202_ACCEPTED)

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        task = self.get_object()
        self.read(Nothing)
        operations.cancel_task(task, by=self.actor)
        return Response(self._answer(), status=status.HTTP_202_ACCEPTED)

    @action(detail=True, methods=["post"])
    def apply(self, request: Request, pk: str) -> Response:
        task = self.get_object()
        self.read(Nothing)
        batch = operations.apply_patch(task, by=self.actor)
        url = reverse("batch-detail", args=[batch.pk], request=request)
        return Response(self._answer(), status=status.HTTP_202_ACCEPTED, headers={"Location": url})

    @action(detail=True, methods=["post"])
    def keep(self, request: Request, pk: str) -> Response:
        """Apply the patch, and discard those that the other variants made of the same item."""
        task = self.get_object()
        self.read(Nothing)
        operations.keep_patch(task, by=self.actor)
        return Response(self._answer(), status=status.HTTP_202_ACCEPTED)

    @action(detail=True, methods=["post"])
    def discard(self, request: Request, pk: str) -> Response:
        task = self.get_object()
        self.read(Nothing)
        operations.discard_patch(task, by=self.actor)
        return Response(self._answer())

    @action(detail=True, pagination_class=InLogOrder)
    def log(self, request: Request, pk: str) -> Response:
        lines = self.page(LogLine.objects.filter(task=self.get_object()))
        return self.get_paginated_response(self.get_serializer(lines, many=True).data)

    @action(detail=True, pagination_class=InLogOrder, renderer_classes=[JSONRenderer, JsonLines])
    def transcript(self, request: Request, pk: str) -> Response | FileResponse:
        """What an agent and its models said, as far as it is; long texts are shortened.

        With ``?format=jsonl`` all of it, as the file that the attempt left.
        """
        task = self.get_object()
        if getattr(request.accepted_renderer, "format", "") == JsonLines.format:
            named = Artefact.objects.filter(task=task, name=TRANSCRIPT)
            narrowed = ArtefactFilter(request.query_params, named)
            if not narrowed.is_valid():
                raise ValidationError(narrowed.errors)
            return _file(narrowed.qs, TRANSCRIPT)
        lines = LogLine.objects.filter(task=task, event__in=SAID)
        return self.get_paginated_response(self.get_serializer(self.page(lines), many=True).data)

    @action(
        detail=True,
        url_path=f"artefacts/(?P<name>{ARTEFACT_NAME})",
        renderer_classes=[Verbatim],
        pagination_class=None,
    )
    def artefact(self, request: Request, pk: str, name: str) -> FileResponse:
        """One file of the newest attempt that left one of that name, or of ``?attempt=``."""
        named = Artefact.objects.filter(task=self.get_object(), name=name)
        return _file(self.filter_queryset(named), name)

    def _answer(self) -> Any:
        return TaskAnswer(self.get_object(), context=self.get_serializer_context()).data


def _file(named: QuerySet[Artefact], name: str) -> FileResponse:
    """The file of that name of the newest attempt."""
    artefact = named.order_by("-attempt").first()
    if artefact is None:
        raise Http404(f"No attempt of this task left a file named {name}.")
    try:
        file = artefact.file.open("rb")
    except FileNotFoundError:
        raise Http404("The file is no longer in the storage of artefacts.") from None
    return FileResponse(
        file,
        as_attachment=True,
        filename=artefact.name,
        content_type=artefact.media_type,
        headers={"X-Content-Type-Options": "nosniff"},
    )

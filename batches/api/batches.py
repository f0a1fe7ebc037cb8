"""Batches: submit, watch, change, cancel, retry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Prefetch
from django.http import StreamingHttpResponse
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from batches import operations, registry
from batches.api.answers import BatchAnswer, TaskAnswer, counts_of
from batches.api.changes import BatchChange, Nothing, Retry
from batches.api.endpoint import UUID_PATTERN, Endpoint, EndpointSet
from batches.api.filters import BatchFilter, BatchTaskFilter
from batches.api.paging import InSubmissionOrder, NewestBatchesFirst
from batches.api.renderers import Csv, JsonLines, Junit, Sarif
from batches.api.submissions import SERIALIZERS, AnySubmission, submission
from batches.api.tasks import visible_tasks
from batches.exports import FORMATS, Selection
from batches.models import Batch
from batches.progress import shown_status
from batches.querysets import BatchQuerySet


def visible_batches(user: Any) -> BatchQuerySet:
    """The user's batches, with all that an answer needs but the counts."""
    visible: BatchQuerySet = Batch.objects.visible_to(user)
    described: BatchQuerySet = visible.sealed().annotate(status=shown_status())
    return described.select_related("owner", "workspace").prefetch_related(
        Prefetch("after", Batch.objects.only("pk").order_by("number"))
    )


class Submissions(Endpoint):
    """Submit a batch of one kind."""

    permissions: ClassVar[dict[str, str]] = {"post": "add_batch"}
    pagination_class = None
    kind_name = ""
    name: str | None = None

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return SERIALIZERS.get(self.kind_name, AnySubmission)

    def post(self, request: Request) -> Response:
        body = self.read(self.get_serializer_class())
        kind = registry.kind(self.kind_name)
        stored = operations.submit(
            cast("User", request.user), submission(kind.name, kind.items, body), by=self.actor
        )
        batch = visible_batches(request.user).get(pk=stored.pk)
        answer = answers([batch], self)[0]
        return Response(
            answer,
            status=status.HTTP_202_ACCEPTED,
            headers={"Location": answer["links"]["self"]},
        )


class Batches(EndpointSet):
    """Batches that you own or that belong to a workspace of one of your groups."""

    lookup_value_regex = UUID_PATTERN
    pagination_class = NewestBatchesFirst
    permissions: ClassVar[dict[str, str]] = {
        "list": "view_batch",
        "retrieve": "view_batch",
        "partial_update": "change_batch",
        "destroy": "delete_batch",
        "retry": "change_batch",
        "tasks": "view_task",
        "results": "view_task",
        "sarif": "view_task",
        "junit": "view_task",
    }
    serializers: ClassVar[dict[str, type[BaseSerializer[Any]]]] = {
        "list": BatchAnswer,
        "retrieve": BatchAnswer,
        "partial_update": BatchChange,
        "destroy": Nothing,
        "retry": Retry,
        "tasks": TaskAnswer,
    }
    filters: ClassVar[dict[str, Any]] = {"list": BatchFilter, "tasks": BatchTaskFilter}

    def get_queryset(self) -> BatchQuerySet:
        return visible_batches(self.request.user)

    def list(self, request: Request) -> Response:
        return self.get_paginated_response(answers(self.page(self.get_queryset()), self))

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(self._answer())

    def partial_update(self, request: Request, pk: str) -> Response:
        batch = self.get_object()
        change = self.read(BatchChange)
        paused = change.pop("paused", None)
        with transaction.atomic():
            if change:
                operations.change_batch(batch, **change, by=self.actor)
            if paused is not None:
                verb = operations.pause_batch if paused else operations.resume_batch
                verb(batch, by=self.actor)
        return Response(self._answer())

    def destroy(self, request: Request, pk: str) -> Response:
        operations.cancel_batch(self.get_object(), by=self.actor)
        return Response(self._answer(), status=status.HTTP_202_ACCEPTED)

    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        batch = self.get_object()
        asked = self.read(Retry)
        queued = operations.retry_batch(
            batch,
            failures=asked.get("failure", ()),
            ids=asked.get("ids", ()),
            by=self.actor,
        )
        return Response(
            {"retried": queued, "batch": self._answer()}, status=status.HTTP_202_ACCEPTED
        )

    @action(detail=True, pagination_class=InSubmissionOrder)
    def tasks(self, request: Request, pk: str) -> Response:
        batch = self.get_object()
        tasks = self.page(visible_tasks(request.user).filter(batch=batch))
        return self.get_paginated_response(self.get_serializer(tasks, many=True).data)

    @action(detail=True, renderer_classes=[JsonLines, Csv], pagination_class=None)
    def results(self, request: Request, pk: str) -> StreamingHttpResponse:
        """JSON Lines, or CSV with ``?format=csv``; of a running batch, as far as it is."""
        return self._download()

    @action(detail=True, renderer_classes=[Sarif], pagination_class=None)
    def sarif(self, request: Request, pk: str) -> StreamingHttpResponse:
        """The findings of a validation batch as one SARIF 2.1.0 log, and what was not checked."""
        return self._download()

    @action(detail=True, renderer_classes=[Junit], pagination_class=None)
    def junit(self, request: Request, pk: str) -> StreamingHttpResponse:
        """The results of a test batch as one JUnit XML, with a suite for each task."""
        return self._download()

    def _download(self) -> StreamingHttpResponse:
        batch, form = self.get_object(), self.request.accepted_renderer
        name = f"{batch.pk}.{getattr(form, 'suffix', form.format)}"
        return StreamingHttpResponse(
            FORMATS[form.format](Selection(batch)),
            content_type=f"{form.media_type}; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    def _answer(self) -> Any:
        return answers([self.get_object()], self)[0]


def answers(batches: Sequence[Batch], view: Endpoint) -> Any:
    context = {**view.get_serializer_context(), "counts": counts_of(batches)}
    return [BatchAnswer(batch, context=context).data for batch in batches]

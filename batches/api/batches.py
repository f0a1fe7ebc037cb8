"""Batches: submit, watch, change, cancel, retry."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, BinaryIO, ClassVar, cast

from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIRequest
from django.db import transaction
from django.db.models import Prefetch
from django.http import HttpRequest, StreamingHttpResponse
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from batches import operations, registry
from batches.api.answers import BatchAnswer, TaskAnswer, counts_of
from batches.api.body import Body, fingerprint
from batches.api.changes import BatchChange, Nothing, Retry
from batches.api.endpoint import UUID_PATTERN, Endpoint, EndpointSet
from batches.api.filters import BatchFilter, BatchTaskFilter, ComparisonFilter
from batches.api.keys import REPLAYED, key_of
from batches.api.lines import Lines, LinesParser, lined_submission, naming_lines
from batches.api.paging import InItemOrder, InSubmissionOrder, NewestBatchesFirst
from batches.api.parsing import ObjectParser
from batches.api.renderers import Csv, JsonLines, Junit, RequestResults, Sarif
from batches.api.submissions import SERIALIZERS, AnySubmission, submission
from batches.api.tasks import visible_tasks
from batches.comparison.figures import columns, figures
from batches.comparison.outcomes import items, outcomes
from batches.exports import FORMATS, Selection
from batches.models import Batch
from batches.progress import shown_dispatch, shown_status
from batches.querysets import BatchQuerySet
from batches.submission import Submission


def visible_batches(user: Any) -> BatchQuerySet:
    """The user's batches, with all that an answer needs but the counts."""
    visible: BatchQuerySet = Batch.objects.visible_to(user)
    described: BatchQuerySet = visible.sealed().annotate(
        status=shown_status(), dispatch=shown_dispatch()
    )
    return described.select_related("owner", "workspace").prefetch_related(
        Prefetch("after", Batch.objects.only("pk").order_by("number"))
    )


class Submissions(Endpoint):
    """Submit a batch of one kind."""

    permissions: ClassVar[dict[str, str]] = {"post": "add_batch"}
    pagination_class = None
    parser_classes = (ObjectParser, LinesParser)
    kind_name = ""
    name: str | None = None
    _streamed: Body | None = None
    """The body, where it is one of JSON Lines."""

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return SERIALIZERS.get(self.kind_name, AnySubmission)

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        asked = super().initialize_request(request, *args, **kwargs)
        if _by_lines(asked):
            # In the place of Django's own stream, which has no end for a body in chunks.
            self._streamed = Body(cast("WSGIRequest", request))
            asked._stream = cast("BinaryIO", self._streamed)  # noqa: SLF001
        return asked

    def takes_chunks(self, request: Request) -> bool:
        return _by_lines(request) and bool(request.META.get("wsgi.input_terminated"))

    def post(self, request: Request) -> Response:
        batch, headers = self.stored(request)
        answer = answers([batch], self)[0]
        headers = {"Location": answer["links"]["self"], **headers}
        return Response(answer, status=status.HTTP_202_ACCEPTED, headers=headers)

    def stored(self, request: Request) -> tuple[Any, dict[str, str]]:
        """The batch of the body, to be answered, and headers that say whether it was there."""
        kind = registry.kind(self.kind_name)
        key = key_of(request)
        body = request.data
        with naming_lines(kind.items, body) if isinstance(body, Lines) else nullcontext():
            stored, replayed = self._submitted(kind, key)
        batch = visible_batches(request.user).get(pk=stored.pk)
        if stored.unsent:
            # Its tasks are marked while a broker that hangs is waited for.
            batch.dispatch = "pending"
        return batch, {REPLAYED: "true"} if replayed else {}

    def _submitted(self, kind: registry.Kind, key: str | None) -> tuple[Batch, bool]:
        owner = cast("User", self.request.user)
        if key is None:
            return operations.submit(owner, self.wanted(kind), by=self.actor), False
        return operations.submit_once(
            owner, key, lambda: self.wanted(kind), self._fingerprint, by=self.actor
        )

    def wanted(self, kind: registry.Kind) -> Submission:
        """What the body asks for."""
        body = self.request.data
        if isinstance(body, Lines):
            return lined_submission(kind, body.first(), body)
        return submission(kind.name, kind.items, self.read(self.get_serializer_class()))

    def _fingerprint(self) -> str:
        if self._streamed is not None:
            return self._streamed.fingerprint()
        return fingerprint(self.request.path, self.request.body)


def _by_lines(request: Request) -> bool:
    return request.content_type.partition(";")[0].strip().lower() == LinesParser.media_type


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
        "comparison": "view_task",
        "comparison_items": "view_task",
    }
    serializers: ClassVar[dict[str, type[BaseSerializer[Any]]]] = {
        "list": BatchAnswer,
        "retrieve": BatchAnswer,
        "partial_update": BatchChange,
        "destroy": Nothing,
        "retry": Retry,
        "tasks": TaskAnswer,
    }
    filters: ClassVar[dict[str, Any]] = {
        "list": BatchFilter,
        "tasks": BatchTaskFilter,
        "comparison": ComparisonFilter,
        "comparison_items": ComparisonFilter,
    }

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

    @action(detail=True, renderer_classes=[JsonLines, Csv, RequestResults], pagination_class=None)
    def results(self, request: Request, pk: str) -> StreamingHttpResponse:
        """JSON Lines, or CSV with ``?format=csv``; of a running batch, as far as it is.

        With ``?format=openai`` the lines have the shape of OpenAI's batch files: finished tasks
        only, each as ``id, custom_id, response, error``.
        """
        return self._download()

    @action(detail=True, renderer_classes=[Sarif], pagination_class=None)
    def sarif(self, request: Request, pk: str) -> StreamingHttpResponse:
        """The findings of a validation batch as one SARIF 2.1.0 log, and what was not checked."""
        return self._download()

    @action(detail=True, renderer_classes=[Junit], pagination_class=None)
    def junit(self, request: Request, pk: str) -> StreamingHttpResponse:
        """The results of a test batch as one JUnit XML, with a suite for each task."""
        return self._download()

    @action(detail=True, pagination_class=None)
    def comparison(self, request: Request, pk: str) -> Response:
        """Each variant's figures; with ``other`` those of another batch beside them."""
        compared = columns(self._compared())
        return Response({"variants": [each.as_json() for each in figures(compared)]})

    @action(detail=True, url_path="comparison/items", pagination_class=InItemOrder)
    def comparison_items(self, request: Request, pk: str) -> Response:
        """Which variants passed each item, in the order of ``variants`` of the comparison."""
        batches = self._compared()
        page = self.paginate_queryset(items(batches[0])) or []
        return self.get_paginated_response(outcomes(columns(batches), page))

    def _compared(self) -> Sequence[Batch]:
        """The batch of the address, and the other one that was asked for."""
        batch = self.get_object()
        narrowed = self.filters["comparison"](self.request.query_params, self.get_queryset())
        if not narrowed.is_valid():
            raise ValidationError(narrowed.errors)
        if (asked := narrowed.form.cleaned_data["other"]) is None:
            return [batch]
        other = self.get_queryset().filter(pk=asked).first()
        if other is None or other.pk == batch.pk or other.kind != batch.kind:
            message = f"Must be another batch of kind {batch.kind} that you may see."
            raise ValidationError({"other": [message]})
        return [batch, other]

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

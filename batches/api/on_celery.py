"""The same work in Celery's words, for clients that speak of task ids, group ids and states.

A group is a batch, and an id is the row's: what is answered is read from the rows.
"""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Any, ClassVar

from django.conf import settings
from rest_framework import exceptions, serializers, status
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from batches import registry
from batches.api.answers import counts_of
from batches.api.batches import Submissions
from batches.api.endpoint import Endpoint
from batches.api.paging import InSubmissionOrder
from batches.celery_answers import group_told, task_told
from batches.celery_words import FINAL, PENDING, RETRY, STARTED
from batches.models import Batch, Task
from batches.states import BackendName
from batches.submission import FieldError, InvalidSubmission, Submission

DISPATCH = ("pending", "sent")


class NoBroker(exceptions.APIException):
    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_detail = (
        "No broker is configured, so there is no Celery here. Set CELERY_BROKER_URL, to "
        "redis://127.0.0.1:6379/0 for example, and start the console again; or submit without "
        "/celery in the address, to the database backend."
    )


class GroupStarted(serializers.Serializer[Any]):
    backend = serializers.ChoiceField([BackendName.CELERY.value])
    group_id = serializers.UUIDField(help_text="The id of the batch.")
    status = serializers.CharField(help_text="As the batch's.")
    dispatch = serializers.ChoiceField(
        DISPATCH, help_text="`pending` while the broker has taken no message of it."
    )
    total_tasks = serializers.IntegerField()
    monitor_url = serializers.URLField(help_text="What `GET` tells of the group.")


class TaskMeta(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="Of the Celery task.")
    kind = serializers.CharField()
    group_id = serializers.UUIDField()
    custom_id = serializers.CharField()
    variant = serializers.CharField(allow_blank=True)
    attempt = serializers.IntegerField()
    failure = serializers.CharField(allow_blank=True)
    worker = serializers.CharField(allow_blank=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class CeleryTaskAnswer(serializers.Serializer[Any]):
    task_id = serializers.UUIDField()
    status = serializers.ChoiceField([PENDING, STARTED, RETRY, *FINAL.values()])
    ready = serializers.BooleanField()
    successful = serializers.BooleanField()
    result = serializers.JSONField(allow_null=True)
    error = serializers.CharField(allow_blank=True)
    meta = TaskMeta()


class CeleryGroupAnswer(serializers.Serializer[Any]):
    group_id = serializers.UUIDField()
    total = serializers.IntegerField()
    completed = serializers.IntegerField()
    successful = serializers.IntegerField()
    failed = serializers.IntegerField()
    progress = serializers.FloatField(help_text="Percentage of what is finished.")
    ready = serializers.BooleanField()
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = CeleryTaskAnswer(many=True)


class CelerySubmissions(Submissions):
    """Submit a batch of one kind to Celery workers."""

    def post(self, request: Request) -> Response:
        if not settings.CELERY_BROKER_URL:
            raise NoBroker
        batch, headers = self.stored(request)
        group = reverse("celery-group", args=[batch.pk], request=request)
        started = {
            "backend": batch.backend,
            "group_id": batch.pk,
            "status": batch.status,
            "dispatch": batch.dispatch,
            "total_tasks": batch.total,
            "monitor_url": group,
        }
        return Response(
            GroupStarted(started).data,
            status=status.HTTP_202_ACCEPTED,
            headers={"Location": group, **headers},
        )

    def wanted(self, kind: registry.Kind) -> Submission:
        wanted = super().wanted(kind)
        if wanted.backend == BackendName.DATABASE:
            raise InvalidSubmission(
                [FieldError("backend", "This address is Celery's: leave it out, or say 'celery'.")]
            )
        return replace(wanted, backend=BackendName.CELERY)


class CeleryTask(Endpoint):
    """One task of a batch on Celery."""

    permissions: ClassVar[dict[str, str]] = {"get": "view_task"}
    pagination_class = None
    serializer_class = CeleryTaskAnswer

    def get(self, request: Request, pk: str) -> Response:
        here = Task.objects.visible_to(request.user).filter(
            batch__sealed_at__isnull=False, batch__backend=BackendName.CELERY
        )
        return Response(CeleryTaskAnswer(task_told(get_object_or_404(here, pk=pk))).data)


class CeleryGroup(Endpoint):
    """One batch on Celery, and its tasks page by page."""

    permissions: ClassVar[dict[str, str]] = {"get": "view_task"}
    pagination_class = InSubmissionOrder
    serializer_class = CeleryGroupAnswer

    def get(self, request: Request, pk: str) -> Response:
        visible = Batch.objects.visible_to(request.user).filter(backend=BackendName.CELERY)
        batch = get_object_or_404(visible, pk=pk)
        tasks = self.paginate_queryset(Task.objects.filter(batch=batch)) or []
        group = group_told(batch, counts_of([batch])[batch.pk], tasks)
        paged = self.get_paginated_response(group["results"]).data
        return Response(CeleryGroupAnswer(group | paged).data)

"""Filters with choices known beforehand: none of them reads the table that it narrows."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest

from batches import registry
from batches.models import Batch, Queue
from batches.progress import shown_status
from batches.querysets import TaskQuerySet
from batches.review import waiting_for_review
from batches.states import BatchStatus


class KindFilter(SimpleListFilter):
    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(name, name) for name in registry.kinds()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


class QueueFilter(SimpleListFilter):
    title = "queue"
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(name, name) for name in Queue.objects.values_list("name", flat=True)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        queue = self.value()
        return self.within(queryset, queue) if queue else queryset

    def within(self, queryset: QuerySet[Any], queue: str) -> QuerySet[Any]:
        """The batches with tasks in it."""
        return queryset.filter(shares__queue=queue)


class TaskQueueFilter(QueueFilter):
    def within(self, queryset: QuerySet[Any], queue: str) -> QuerySet[Any]:
        return cast("TaskQuerySet", queryset).in_queue(queue)


class StatusFilter(SimpleListFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(status.value, str(status.label)) for status in BatchStatus]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        shown: QuerySet[Any] = queryset.alias(status=shown_status())
        return shown.filter(status=self.value())


class OneBatchFilter(SimpleListFilter):
    """Appears once a page of a batch links to its tasks; its only choice is that batch."""

    title = "batch"
    parameter_name = "batch"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        if "batch" not in request.GET:
            return []
        try:
            batch = Batch.objects.visible_to(request.user).get(pk=UUID(request.GET["batch"]))
        except (ValueError, Batch.DoesNotExist) as error:
            raise IncorrectLookupParameters(error) from error
        return [(str(batch.pk), str(batch))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(batch=self.value()) if self.value() else queryset


class VariantFilter(SimpleListFilter):
    """Of the batch that the list is narrowed to."""

    title = "variant"
    parameter_name = "variant"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        try:
            batch = Batch.objects.visible_to(request.user).get(pk=UUID(request.GET["batch"]))
        except (KeyError, ValueError, Batch.DoesNotExist):
            return []
        return [(variant["name"], variant["name"]) for variant in batch.variants]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(variant=self.value()) if self.value() else queryset


class ReviewFilter(SimpleListFilter):
    """Patches that nobody has applied or discarded yet."""

    title = "patch"
    parameter_name = "patch"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [("waits", "Waits for review")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(pk__in=waiting_for_review()) if self.value() else queryset

"""Filters and annotations. Nothing here writes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from django.apps import apps
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Count, F, OuterRef, Q, Subquery
from django.db.models.functions import Now

from batches.lanes import BATCH_NUMBER
from batches.states import DEAD_LETTERS, UNFINISHED, TaskState, WorkerState

if TYPE_CHECKING:
    from uuid import UUID

    from django.contrib.auth.models import AnonymousUser, User

READY = Q(
    state=TaskState.QUEUED,
    run_after__isnull=True,
    unmet_dependencies=0,
    waiting_for="",
    dispatched_at__isnull=True,
)
"""What a task's own columns must say before it can be claimed; the claim index holds just these."""

WORKER_SILENCE = timedelta(seconds=30)
"""A worker not heard of for longer is not counted as live."""


def is_admin(user: User | AnonymousUser) -> bool:
    """Superusers, and those who may change workspaces: the admin group."""
    return user.has_perm("batches.change_workspace")


def _visible(user: Any, prefix: str) -> Q:
    granted = apps.get_model("batches", "Workspace").objects.granted_to(user).values("pk")
    return Q(**{f"{prefix}owner": user.pk}) | Q(**{f"{prefix}workspace__in": granted})


class BatchQuerySet(models.QuerySet[Any]):
    def visible_to(self, user: Any) -> Self:
        """Own batches and those of workspaces granted to a group of the user; admins see all.

        Nobody sees one that is still being inserted, or is being deleted.
        """
        if not user.is_authenticated:
            return self.none()
        sealed = self.sealed()
        return sealed if is_admin(user) else sealed.filter(_visible(user, ""))

    def sealed(self) -> Self:
        return self.filter(sealed_at__isnull=False)

    def counts(self) -> dict[UUID, dict[str, int]]:
        """Batch id → state → number of tasks, for the batches of this (sliced) queryset."""
        task = self.model.tasks.rel.related_model
        ids = [batch.pk for batch in self]
        counted: dict[UUID, dict[str, int]] = {pk: {} for pk in ids}
        rows = (
            task.objects.filter(batch__in=ids)
            .values_list("batch", "state")
            .order_by()
            .annotate(n=Count("*"))
        )
        for batch, state, n in rows:
            counted[batch][state] = n
        return counted


class TaskQuerySet(models.QuerySet[Any]):
    def visible_to(self, user: Any) -> Self:
        """Tasks of the batches the user may see."""
        if not user.is_authenticated:
            return self.none()
        return self if is_admin(user) else self.filter(_visible(user, "batch__"))

    def with_share(self) -> Self:
        """Joined with the share that each is in: its queue is ``batch__shares__queue``."""
        return self.filter(batch__shares__number=F("lane").bitand(BATCH_NUMBER))

    def with_queue(self) -> Self:
        """Annotated with the name of its ``queue``, which is looked up for what is read alone."""
        shares = apps.get_model("batches", "Share").objects
        own = shares.filter(number=OuterRef("lane").bitand(BATCH_NUMBER))
        return self.annotate(queue=Subquery(own.values("queue")))

    def in_queue(self, name: str) -> Self:
        return self.filter(
            batch__shares__queue=name, batch__shares__number=F("lane").bitand(BATCH_NUMBER)
        )

    def unfinished(self) -> Self:
        return self.filter(state__in=UNFINISHED)

    def dead_letters(self) -> Self:
        return self.filter(state=TaskState.FAILED, failure__in=DEAD_LETTERS)


class WorkerQuerySet(models.QuerySet[Any]):
    def live(self) -> Self:
        return self.exclude(state=WorkerState.STOPPED).filter(seen_at__gt=Now() - WORKER_SILENCE)


class GrantedQuerySet(models.QuerySet[Any]):
    """Of rows that have ``groups``: workspaces and MCP servers."""

    def granted_to(self, user: Any) -> Self:
        """Rows that a group of the user was given."""
        groups = Group.objects.filter(user=user.pk)
        through = self.model.groups.through.objects.filter(group__in=groups)
        return self.filter(pk__in=through.values(self.model._meta.model_name))  # noqa: SLF001

    def visible_to(self, user: Any) -> Self:
        """Rows granted to a group of the user; admins see all."""
        if not user.is_authenticated:
            return self.none()
        return self if is_admin(user) else self.granted_to(user)

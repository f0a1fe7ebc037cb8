"""A batch: what was asked for, once. Its progress is counted from its tasks, never kept here."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import uuid_utils
from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from batches.lanes import HIGHEST, LOWEST
from batches.querysets import BatchQuerySet
from batches.states import BackendName, BatchState, OnFailure

if TYPE_CHECKING:
    from batches.models.task import Task


def new_id() -> uuid.UUID:
    """A UUIDv7 (RFC 9562): unique anywhere, and close to creation order."""
    return uuid.UUID(bytes=uuid_utils.uuid7().bytes)


def new_number() -> int:
    """Microseconds since 1970: the batch's age, by which equal priorities are ordered."""
    return time.time_ns() // 1000


PRIORITY = (MinValueValidator(LOWEST), MaxValueValidator(HIGHEST))


class Batch(models.Model):
    """Tasks of one kind, submitted together."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    number = models.BigIntegerField(unique=True, default=new_number, editable=False)
    kind = models.CharField(max_length=40)
    name = models.CharField(max_length=200, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="batches"
    )
    workspace = models.ForeignKey(
        "batches.Workspace", models.PROTECT, null=True, blank=True, related_name="batches"
    )
    backend = models.CharField(max_length=20, choices=BackendName)
    queue = models.ForeignKey("batches.Queue", models.PROTECT, related_name="batches")
    """Where its tasks are, but for those of a variant that has another: see ``Share``."""

    state = models.CharField(max_length=10, choices=BatchState, default=BatchState.OPEN)
    sealed_at = models.DateTimeField(null=True)
    """Set once every row is in: before that nothing of it is claimed or closed."""
    paused_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    retried_at = models.DateTimeField(null=True)
    """Of the last manual retry: failures from before it no longer stop the batch."""
    unmet_after = models.PositiveIntegerField(default=0)
    """Batches of ``after`` that have not completed."""

    priority = models.PositiveSmallIntegerField(null=True, validators=PRIORITY)
    """Null: the queue's."""
    parallel = models.PositiveIntegerField(null=True, validators=[MinValueValidator(1)])
    """Most tasks running at once; null: no limit."""
    max_attempts = models.PositiveSmallIntegerField(default=3)
    timeout = models.PositiveIntegerField()
    """Seconds for one attempt."""
    run_at = models.DateTimeField(null=True)
    deadline = models.DateTimeField(null=True)
    on_failure = models.CharField(max_length=10, choices=OnFailure, default=OnFailure.CONTINUE)
    labels = models.JSONField(default=list)
    options = models.JSONField(default=dict)
    """The kind's fields as they were submitted; each task's payload already includes them."""
    demands = models.JSONField(default=list)
    """Each set of models that a task of it needs at once, once: ``[["model:a", "model:b"], …]``."""
    variants = models.JSONField(default=list)
    """Objects with a ``name`` and the options that the variant has of its own."""
    resumes = models.UUIDField(null=True, db_index=True)
    """The batch whose successes it left out; not a foreign key, since that one may be deleted."""
    left_out = models.PositiveIntegerField(default=0)
    """Tasks that it would have, had they not succeeded there."""
    after: models.ManyToManyField[Batch, models.Model] = models.ManyToManyField(
        "self", symmetrical=False, related_name="followers", blank=True
    )

    mirrored_at = models.DateTimeField(null=True)
    """On Celery: since it is finished, Celery's records say of every task what its row says."""

    total = models.PositiveIntegerField(default=0)
    summary = models.JSONField(null=True)
    """Final counts by state and failure, written when the batch closes."""
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    unsent = False
    """Of a batch that was just submitted: the broker has not taken its messages yet."""

    objects = BatchQuerySet.as_manager()
    tasks: models.Manager[Task]
    shares: models.Manager[Share]

    class Meta:
        verbose_name_plural = "batches"
        ordering = ["-number"]
        indexes = [
            models.Index(fields=["owner", "-number"], name="batch_owner"),
            models.Index(fields=["workspace", "-number"], name="batch_workspace"),
            models.Index(
                fields=["deadline"],
                condition=Q(state=BatchState.OPEN, deadline__isnull=False),
                name="batch_deadline",
            ),
            models.Index(fields=["number"], condition=Q(state=BatchState.OPEN), name="batch_open"),
            models.Index(
                fields=["number"],
                condition=Q(
                    backend=BackendName.CELERY, state=BatchState.DONE, mirrored_at__isnull=True
                ),
                name="batch_to_mirror",
            ),
            models.Index(
                fields=["finished_at"], condition=Q(state=BatchState.DONE), name="batch_done"
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(priority__isnull=True) | Q(priority__range=(LOWEST, HIGHEST)),
                name="batch_priority_in_range",
            ),
            models.CheckConstraint(
                condition=Q(parallel__isnull=True) | Q(parallel__gte=1),
                name="batch_parallel_at_least_one",
            ),
            models.CheckConstraint(
                condition=Q(state=BatchState.OPEN, finished_at__isnull=True)
                | Q(state=BatchState.DONE, finished_at__isnull=False, sealed_at__isnull=False),
                name="batch_finished_iff_done",
            ),
        ]

    def __str__(self) -> str:
        return self.name or f"{self.kind} {self.id.hex[-8:]}"


class Share(models.Model):
    """The tasks of a batch that are in one queue; their lanes are of its number."""

    number = models.BigIntegerField(primary_key=True)
    """Of the batch's own queue the batch's number; of another's one that is as young."""
    batch = models.ForeignKey(Batch, models.CASCADE, related_name="shares", db_index=False)
    queue = models.ForeignKey("batches.Queue", models.PROTECT, related_name="shares")
    whole = models.BooleanField(default=True)
    """The batch has no other."""

    class Meta:
        indexes = [
            models.Index(fields=["batch"], condition=Q(whole=False), name="share_of_divided")
        ]
        constraints = [
            models.UniqueConstraint(fields=["batch", "queue"], name="share_batch_queue_unique")
        ]

    def __str__(self) -> str:
        return f"{self.batch_id} in {self.queue_id}"

"""What tasks run on: queues, workers, workspaces, and the resources they need."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import Group
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from batches.lanes import HIGHEST, LOWEST
from batches.models.batch import PRIORITY, new_id
from batches.querysets import GrantedQuerySet, WorkerQuerySet
from batches.states import BackendName, WorkerState


class Queue(models.Model):
    """A route with a priority and limits. The seven are made by a migration."""

    name = models.CharField(primary_key=True, max_length=40)
    priority = models.PositiveSmallIntegerField(default=5, validators=PRIORITY)
    paused_at = models.DateTimeField(null=True, blank=True)
    concurrency_limit = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)]
    )
    """Most tasks running at once over all workers; null: no limit."""
    rate_limit = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)]
    )
    """Most starts in any 60 seconds; null: no limit."""

    class Meta:
        ordering = ["-priority", "name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(priority__range=(LOWEST, HIGHEST)), name="queue_priority_in_range"
            ),
            models.CheckConstraint(
                condition=(Q(concurrency_limit__isnull=True) | Q(concurrency_limit__gte=1))
                & (Q(rate_limit__isnull=True) | Q(rate_limit__gte=1)),
                name="queue_limits_at_least_one",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Start(models.Model):
    """One claim from a queue with a rate limit; kept for a minute, to be counted."""

    queue = models.ForeignKey(Queue, models.CASCADE, related_name="starts", db_index=False)
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["queue", "at"], name="start_queue_at")]

    def __str__(self) -> str:
        return f"{self.queue_id} at {self.at}"


class Worker(models.Model):
    """A supervisor process and what it said of itself last."""

    name = models.CharField(max_length=120, unique=True)
    backend = models.CharField(max_length=20, choices=BackendName)
    state = models.CharField(max_length=10, choices=WorkerState, default=WorkerState.RUNNING)
    host = models.CharField(max_length=100)
    pid = models.PositiveIntegerField()
    queues = models.JSONField(default=list)
    kinds = models.JSONField(default=list)
    workspaces = models.JSONField(default=list)
    """Ids of the workspaces it can open."""
    slots = models.PositiveIntegerField()
    running = models.PositiveIntegerField(default=0)
    sandbox = models.CharField(max_length=20, default="", blank=True)
    started_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField(auto_now_add=True)
    claimed_at = models.DateTimeField(null=True)

    objects = WorkerQuerySet.as_manager()

    class Meta:
        ordering = ["-seen_at"]

    def __str__(self) -> str:
        return self.name


NAME = RegexValidator(
    r"^[a-z0-9][a-z0-9._-]*\Z", "Use small letters, digits, dots, dashes, underscores."
)


def no_environment() -> dict[str, object]:
    return {"virtualenv": "", "path": [], "variables": {}}


class Workspace(models.Model):
    """A named folder that tasks work in.

    A file in it holds ``marker``, so that a worker on another machine can tell whether the folder
    at ``path`` is this one.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=64, unique=True, validators=[NAME])
    path = models.CharField(max_length=1000)
    marker = models.UUIDField(default=uuid.uuid4, editable=False)
    environment = models.JSONField(default=no_environment, blank=True)
    """``{"virtualenv": path, "path": [folders], "variables": {name: value}}`` for its commands."""
    groups = models.ManyToManyField(Group, related_name="workspaces", blank=True)
    """Who sees its batches, besides their owners and admins."""
    changing_task = models.UUIDField(null=True, editable=False)
    changing_attempt = models.PositiveIntegerField(null=True, editable=False)
    """The attempt that has it to itself as long as it runs, for it changes what others read."""
    created_at = models.DateTimeField(auto_now_add=True)

    objects = GrantedQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(changing_task__isnull=True, changing_attempt__isnull=True)
                | Q(changing_task__isnull=False, changing_attempt__isnull=False),
                name="workspace_changed_by_an_attempt",
            )
        ]

    def __str__(self) -> str:
        return self.name


class Resource(models.Model):
    """Something tasks need that can be away; a row exists once it has been away."""

    name = models.CharField(primary_key=True, max_length=200)
    kind = models.CharField(max_length=40)
    """The kind of task whose processor can probe it."""
    away_since = models.DateTimeField(null=True)
    reason = models.TextField(default="", blank=True)
    probes = models.PositiveIntegerField(default=0)
    """Probes that failed since it went away."""
    probe_after = models.DateTimeField(null=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Chore(models.Model):
    """Work that any process may do but only one at a time: taken by a compare-and-set."""

    name = models.CharField(primary_key=True, max_length=40)
    due_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

"""A task and its attempts. State is written only by ``batches.queue``."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from batches.lanes import HIGHEST, LOWEST
from batches.models.batch import Batch, new_id
from batches.querysets import READY, TaskQuerySet
from batches.states import AttemptOutcome, Failure, PriorityFrom, TaskState


class Task(models.Model):
    """One piece of work. While it runs, its columns are the running attempt."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    batch = models.ForeignKey(Batch, models.CASCADE, related_name="tasks", db_index=False)
    position = models.PositiveIntegerField()
    """Place in the submission, from 0."""
    custom_id = models.CharField(max_length=128)
    variant = models.CharField(max_length=64, default="", blank=True)
    kind = models.CharField(max_length=40)
    payload = models.JSONField()
    needs = models.JSONField(default=list)
    """Names of the resources it cannot run without."""

    priority = models.PositiveSmallIntegerField()
    priority_from = models.CharField(max_length=5, choices=PriorityFrom)
    lane = models.BigIntegerField()
    """Claim order: see ``batches.lanes``."""
    timeout = models.PositiveIntegerField()
    max_attempts = models.PositiveSmallIntegerField()
    replay_safe = models.BooleanField(default=True)
    """May a lost attempt be run again, as long as it announced no effect?"""
    effect_at = models.DateTimeField(null=True)
    """When the running attempt announced a change to something shared: it is not replayed then."""

    state = models.CharField(max_length=10, choices=TaskState, default=TaskState.QUEUED)
    failure = models.CharField(max_length=10, choices=Failure, default="", blank=True)
    attempt = models.PositiveIntegerField(default=0)
    """Number of the last attempt. Only grows: it fences leases."""
    failures = models.PositiveIntegerField(default=0)
    """Attempts that count against ``max_attempts``; a manual retry sets it to 0."""
    worker = models.CharField(max_length=120, default="", blank=True)
    leased_until = models.DateTimeField(null=True)

    run_after = models.DateTimeField(null=True)
    """Scheduled or backing off until then; null once due, which puts it in the claim index."""
    unmet_dependencies = models.PositiveIntegerField(default=0)
    """0, or 1 while a predecessor has not succeeded: how many is not kept."""
    has_dependents = models.BooleanField(default=False)
    waiting_for = models.CharField(max_length=200, default="", blank=True)
    """The resource whose return it waits for."""
    dispatched_at = models.DateTimeField(null=True)
    """When a Celery worker was last told of it, while nobody has come with that message."""
    dispatches = models.PositiveSmallIntegerField(default=0)
    """How often it was told of for the attempt to come."""
    message_id = models.UUIDField(null=True)
    """The id of its next message, where its own was revoked: Celery workers drop that one."""
    cancel_requested_at = models.DateTimeField(null=True)

    result = models.JSONField(null=True)
    error = models.TextField(default="", blank=True)
    """Why the last attempt did not succeed, in words for the person who must act."""
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = TaskQuerySet.as_manager()
    attempts: models.Manager[Attempt]

    class Meta:
        ordering = ["batch", "position"]
        indexes = [
            models.Index(fields=["lane", "position"], condition=READY, name="task_claim"),
            models.Index(
                fields=["leased_until"],
                condition=Q(state=TaskState.RUNNING),
                name="task_lease",
            ),
            models.Index(
                fields=["run_after"],
                condition=Q(state=TaskState.QUEUED, run_after__isnull=False),
                name="task_run_after",
            ),
            models.Index(
                fields=["waiting_for"],
                condition=Q(state=TaskState.QUEUED) & ~Q(waiting_for=""),
                name="task_waiting_for",
            ),
            models.Index(
                fields=["failure", "finished_at"],
                condition=Q(state=TaskState.FAILED),
                name="task_failed",
            ),
            models.Index(
                fields=["batch"],
                condition=Q(state=TaskState.QUEUED, unmet_dependencies__gt=0),
                name="task_unmet",
            ),
            models.Index(
                fields=["dispatched_at"],
                condition=Q(state=TaskState.QUEUED, dispatched_at__isnull=False),
                name="task_dispatched",
            ),
            models.Index(fields=["batch", "state", "position"], name="task_batch_state"),
            models.Index(fields=["finished_at"], name="task_finished"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["batch", "position", "variant"], name="task_position_unique"
            ),
            models.UniqueConstraint(
                fields=["batch", "custom_id", "variant"], name="task_custom_id_unique"
            ),
            models.CheckConstraint(
                condition=Q(state=TaskState.RUNNING, leased_until__isnull=False)
                | (~Q(state=TaskState.RUNNING) & Q(leased_until__isnull=True)),
                name="task_leased_iff_running",
            ),
            models.CheckConstraint(
                condition=(Q(state=TaskState.FAILED) & ~Q(failure=""))
                | (~Q(state=TaskState.FAILED) & Q(failure="")),
                name="task_failure_iff_failed",
            ),
            models.CheckConstraint(
                condition=~Q(state=TaskState.QUEUED) | Q(failures__lt=F("max_attempts")),
                name="task_queued_has_budget",
            ),
            models.CheckConstraint(
                condition=Q(priority__range=(LOWEST, HIGHEST))
                & Q(lane__gte=(HIGHEST - F("priority")) * (1 << 52))
                & Q(lane__lt=(HIGHEST + 1 - F("priority")) * (1 << 52)),
                name="task_lane_of_priority",
            ),
        ]

    def __str__(self) -> str:
        return self.custom_id


class Attempt(models.Model):
    """One run of a task, written when it ends; the running one lives in the task's columns."""

    # No foreign key in the database: its check costs 15 % of the settled tasks a second, and
    # attempts are deleted with their tasks by cleanup alone.
    task = models.ForeignKey(
        Task, models.CASCADE, related_name="attempts", db_constraint=False, db_index=False
    )
    number = models.PositiveIntegerField()
    worker = models.CharField(max_length=120)
    outcome = models.CharField(max_length=12, choices=AttemptOutcome)
    error = models.TextField(default="", blank=True)
    sandbox = models.CharField(max_length=20, default="", blank=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["task", "number"], name="attempt_number_unique")
        ]

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.outcome}"


class Dependency(models.Model):
    """``task`` runs only after ``predecessor`` of the same batch succeeded."""

    task = models.ForeignKey(Task, models.CASCADE, related_name="dependencies", db_index=False)
    predecessor = models.ForeignKey(Task, models.CASCADE, related_name="dependents")

    class Meta:
        verbose_name_plural = "dependencies"
        constraints = [
            models.UniqueConstraint(fields=["task", "predecessor"], name="dependency_unique")
        ]

    def __str__(self) -> str:
        return f"{self.task_id} after {self.predecessor_id}"

"""What an attempt leaves behind: its live log and its files."""

from __future__ import annotations

from django.db import models

from batches.models.task import Task


class LogLine(models.Model):
    """One event of an attempt, in the order it was received."""

    task = models.ForeignKey(
        Task, models.CASCADE, related_name="log", db_constraint=False, db_index=False
    )
    attempt = models.PositiveIntegerField()
    at = models.DateTimeField()
    event = models.CharField(max_length=100)
    fields = models.JSONField(default=dict)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["task", "id"], name="logline_task")]

    def __str__(self) -> str:
        return self.event


def artefact_path(artefact: Artefact, name: str) -> str:
    """``ab/<task id>/<attempt>/<name>``: no folder grows past what a file system likes."""
    task = str(artefact.task_id)
    return f"{task[-2:]}/{task}/{artefact.attempt}/{name}"


class Artefact(models.Model):
    """A file kept with an attempt, in Django's file storage."""

    task = models.ForeignKey(Task, models.CASCADE, related_name="artefacts", db_index=False)
    attempt = models.PositiveIntegerField()
    name = models.CharField(max_length=100)
    media_type = models.CharField(max_length=100)
    file = models.FileField(upload_to=artefact_path, max_length=300)
    size = models.PositiveBigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["attempt", "name"]
        constraints = [
            models.UniqueConstraint(fields=["task", "attempt", "name"], name="artefact_name_unique")
        ]

    def __str__(self) -> str:
        return self.name

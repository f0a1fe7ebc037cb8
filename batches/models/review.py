"""What a person decided on a task's patch."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from batches.models.task import Task
from batches.states import DecisionVerb


class Decision(models.Model):
    """The last one on a task. Whether the patch was applied is said by the task that does it."""

    task = models.OneToOneField(Task, models.CASCADE, related_name="decision")
    attempt = models.PositiveIntegerField()
    """Whose patch it is about: once the task was run again, nothing is decided."""
    verb = models.CharField(max_length=7, choices=DecisionVerb)
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="decisions"
    )
    at = models.DateTimeField(auto_now_add=True)
    applying = models.ForeignKey(Task, models.SET_NULL, null=True, related_name="applies")
    """The task of kind ``apply`` that puts it into the workspace; null once that is cleaned up."""

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.verb} {self.task_id}"

"""What is answered about batches and tasks: the fields, in their order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.reverse import reverse

from batches.models import Artefact, Attempt, Batch, Decision, LogLine, Task
from batches.progress import progress
from batches.review import last_decision
from batches.states import BatchState

Counts = dict[UUID, dict[str, int]]


def counts_of(batches: Iterable[Batch]) -> Counts:
    """State → number of tasks, for each batch: stored for finished ones, counted in one query for
    the others."""
    batches = list(batches)
    counted: Counts = {
        batch.pk: batch.summary or {} for batch in batches if batch.state == BatchState.DONE
    }
    if live := [batch.pk for batch in batches if batch.state != BatchState.DONE]:
        counted |= Batch.objects.filter(pk__in=live).only("pk").order_by().counts()
    return counted


class BatchAnswer(serializers.ModelSerializer[Batch]):
    """Wants ``counts`` in its context, and the annotations ``status`` and ``dispatch``."""

    owner = serializers.SlugRelatedField[Any]("username", read_only=True)
    workspace = serializers.SlugRelatedField[Any]("name", read_only=True)
    status = serializers.CharField()
    dispatch = serializers.CharField(allow_null=True)
    paused = serializers.SerializerMethodField()
    after = serializers.SerializerMethodField()
    variants = serializers.SerializerMethodField()
    progress = serializers.SerializerMethodField()
    links = serializers.SerializerMethodField()

    class Meta:
        model = Batch
        fields = [
            "id", "kind", "name", "owner", "workspace", "backend", "status", "dispatch", "priority",
            "parallel", "paused", "labels", "after", "run_at", "deadline", "variants",
            "resumes", "left_out", "total", "progress", "created_at", "started_at", "finished_at",
            "links",
        ]  # fmt: skip

    def get_paused(self, batch: Batch) -> bool:
        return batch.paused_at is not None

    def get_after(self, batch: Batch) -> list[UUID]:
        return [other.pk for other in batch.after.all()]

    def get_variants(self, batch: Batch) -> list[str]:
        return [variant["name"] for variant in batch.variants]

    def get_progress(self, batch: Batch) -> dict[str, Any]:
        return asdict(progress(batch, self.context["counts"][batch.pk], timezone.now()))

    def get_links(self, batch: Batch) -> dict[str, str]:
        request = self.context["request"]
        names = {"self": "batch-detail", "tasks": "batch-tasks", "results": "batch-results"}
        return {
            link: reverse(name, args=[batch.pk], request=request) for link, name in names.items()
        }


class AttemptAnswer(serializers.ModelSerializer[Attempt]):
    class Meta:
        model = Attempt
        fields = ["number", "worker", "outcome", "error", "sandbox", "started_at", "finished_at"]


class ArtefactAnswer(serializers.ModelSerializer[Artefact]):
    url = serializers.SerializerMethodField()

    class Meta:
        model = Artefact
        fields = ["attempt", "name", "media_type", "size", "created_at", "url"]

    def get_url(self, artefact: Artefact) -> str:
        url: str = reverse(
            "task-artefact",
            args=[artefact.task_id, artefact.name],
            request=self.context["request"],
        )
        return f"{url}?attempt={artefact.attempt}"


class DecisionAnswer(serializers.ModelSerializer[Decision]):
    """On the patch that the task has now."""

    by = serializers.SlugRelatedField[Any]("username", read_only=True)
    task = serializers.PrimaryKeyRelatedField[Any](
        source="applying",
        read_only=True,
        allow_null=True,
        help_text="The task that applies it; null where it was discarded.",
    )
    state = serializers.CharField(
        source="applying.state",
        read_only=True,
        allow_null=True,
        default=None,
        help_text="Of that task.",
    )

    class Meta:
        model = Decision
        fields = ["verb", "by", "at", "task", "state"]


class TaskAnswer(serializers.ModelSerializer[Task]):
    """Wants the annotation ``queue``; reads ``attempts``, ``artefacts``, ``dependencies`` and
    ``decision``."""

    queue = serializers.CharField()
    depends_on = serializers.SerializerMethodField()
    attempts = AttemptAnswer(many=True)
    artefacts = ArtefactAnswer(many=True)
    decision = serializers.SerializerMethodField()

    class Meta:
        model = Task
        fields = [
            "id", "batch", "custom_id", "variant", "position", "kind", "queue", "priority", "state",
            "failure", "attempt", "failures", "max_attempts", "timeout", "depends_on", "payload",
            "result", "error", "attempts", "artefacts", "decision", "created_at", "started_at",
            "finished_at",
        ]  # fmt: skip

    @extend_schema_field(DecisionAnswer(allow_null=True))
    def get_decision(self, task: Task) -> Any:
        decision = last_decision(task)
        return None if decision is None else DecisionAnswer(decision).data

    def get_depends_on(self, task: Task) -> list[str]:
        return [each.predecessor.custom_id for each in task.dependencies.all()]


class LogLineAnswer(serializers.ModelSerializer[LogLine]):
    class Meta:
        model = LogLine
        fields = ["id", "attempt", "at", "event", "fields"]

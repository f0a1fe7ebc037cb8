"""Tasks that left a patch, as an agent's attempt would have."""

from __future__ import annotations

from typing import Any

from django.core.files.base import ContentFile
from django.db.models.functions import Now

from batches.models import Artefact, Task

PATCH = "diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-old\n+new\n"


def with_patch(task: Task, *, text: str = PATCH, applied: str = "pending", **more: Any) -> Task:
    """The task, ended with an answer that keeps a patch; ``more`` are columns of its row."""
    attempt = task.attempt + 1
    Artefact.objects.create(
        task=task, attempt=attempt, name="changes.patch", media_type="text/x-diff", size=len(text),
        file=ContentFile(text.encode(), "changes.patch"),
    )  # fmt: skip
    result = {"base_commit": "c0ffee", "applied": applied, "patch": {"artefact": "changes.patch"}}
    columns = {"state": "succeeded", "attempt": attempt, "result": result, "finished_at": Now()}
    Task.objects.filter(pk=task.pk).update(**columns | more)
    return Task.objects.get(pk=task.pk)

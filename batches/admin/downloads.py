"""What tasks produced, as downloads: the browser never shows inline what a task wrote."""

from __future__ import annotations

import json

from django.core.files.storage import Storage
from django.http import FileResponse, Http404, HttpResponse

from batches.models import Artefact, Task

COLUMNS = ("result", "payload")


def artefact(task: Task, attempt: int, name: str) -> FileResponse:
    """One kept file. Its own media type is not told to the browser: it came from a task."""
    try:
        kept = Artefact.objects.get(task=task, attempt=attempt, name=name)
        storage: Storage = kept.file.storage
        content = storage.open(str(kept.file.name), "rb")
    except (Artefact.DoesNotExist, FileNotFoundError) as error:
        raise Http404(f"The file {name} of attempt {attempt} is not there any more.") from error
    return FileResponse(
        content, as_attachment=True, filename=name, content_type="application/octet-stream"
    )


def column(task: Task, name: str) -> HttpResponse:
    """The whole result or payload, however large."""
    if name not in COLUMNS:
        raise Http404(f"There is no {name} to download.")
    text = json.dumps(getattr(task, name), indent=2, ensure_ascii=False)
    return HttpResponse(
        text,
        content_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{task.pk}-{name}.json"'},
    )

"""Examples of the OpenAPI document, call by call. A test sends and compares every one."""

from __future__ import annotations

import json
from typing import Any

from rest_framework import serializers

from batches.api.story import (
    CELERY_TASK,
    COMPARED,
    COMPARED_ITEM,
    CSV,
    FIGURES,
    FINISHED,
    HERE,
    ID,
    JSON,
    JUNIT,
    LINE,
    LOG_LINE,
    METRICS,
    MODEL,
    OPTIONS,
    QUEUE,
    SAID,
    SARIF,
    SERVER,
    WORKSPACE,
    batch,
    reviewed,
    task,
)


def page(one: JSON) -> JSON:
    return {"next": None, "previous": None, "results": [one]}


BODIES: dict[str, JSON] = {
    "Batches.partial_update": {"paused": True},
    "Batches.retry": {"failure": ["rejected"]},
    "Tasks.partial_update": {"priority": 9},
    "Queues.partial_update": {"concurrency_limit": 4},
    "Workspaces.create": {
        "name": "shop", "path": "/srv/shop", "environment": {"variables": {"TZ": "UTC"}},
        "groups": ["operator"],
    },
    "Workspaces.partial_update": {"groups": ["operator"]},
    "McpServers.create": {
        name: SERVER[name] for name in ("name", "url", "headers", "secrets", "tools", "groups")
    },
    "McpServers.partial_update": {"enabled": False},
    "Models.create": {
        name: MODEL[name] for name in ("name", "endpoint", "num_ctx", "keep_alive", "parallel")
    },
    "Models.partial_update": {"parallel": 4},
}  # fmt: skip
"""Call → body; one that is not here asks for nothing, or is a submission."""

WAITS: JSON = {
    "state": "queued", "failure": "", "attempt": 0, "result": None, "error": "", "attempts": [],
    "artefacts": [], "started_at": None, "finished_at": None,
}  # fmt: skip
AGAIN = WAITS | {"attempt": 1, "attempts": task()["attempts"], "artefacts": task()["artefacts"]}

ANSWERS: dict[str, Any] = {
    "Live.get": {"status": "live"},
    "Ready.get": {"status": "ready"},
    "Metrics.get": METRICS,
    "Document.get": {
        "openapi": "3.1.0", "info": {"title": "Ollama Coder", "version": "…", "description": "…"},
        "paths": {"/batch": {}}, "components": {"schemas": {}},
    },
    "Docs.get": "<!DOCTYPE html>",
    "Stats.get": FIGURES,
    "CelerySubmissions.post": {
        "backend": "celery", "group_id": ID, "status": "queued", "dispatch": "sent",
        "total_tasks": 1, "monitor_url": f"{HERE}/celery/group/{ID}",
    },
    "CeleryTask.get": CELERY_TASK,
    "CeleryGroup.get": {
        "group_id": ID, "total": 1, "completed": 1, "successful": 0, "failed": 1,
        "progress": 100.0, "ready": True,
    } | page(CELERY_TASK),
    "Batches.list": page(batch()),
    "Batches.retrieve": batch(),
    "Batches.partial_update": batch(status="paused", paused=True),
    "Batches.destroy": batch(status="cancelled"),
    "Batches.retry": {"retried": 1, "batch": batch()},
    "Batches.tasks": page(task()),
    "Batches.results": LINE,
    "Batches.results text/csv": CSV,
    "Batches.comparison": {"variants": [COMPARED]},
    "Batches.comparison_items": page(COMPARED_ITEM),
    "Batches.sarif": SARIF,
    "Batches.junit": JUNIT,
    "Tasks.list": page(task()),
    "Tasks.retrieve": task(),
    "Tasks.partial_update": task(**WAITS, priority=9),
    "Tasks.retry": task(**AGAIN),
    "Tasks.cancel": task(**WAITS | {"state": "cancelled", "finished_at": FINISHED}),
    "Tasks.apply": reviewed("apply", task=ID, state="queued"),
    "Tasks.discard": reviewed("discard"),
    "Tasks.keep": reviewed("apply", task=ID, state="queued"),
    "Tasks.log": page(LOG_LINE),
    "Tasks.transcript": page(SAID),
    "Tasks.transcript application/x-ndjson": SAID["fields"],
    "Tasks.artefact": JUNIT,
    "Queues.list": {"results": [QUEUE]},
    "Queues.retrieve": QUEUE,
    "Queues.partial_update": QUEUE | {"concurrency_limit": 4},
    "Workspaces.list": page(WORKSPACE),
    "Workspaces.create": WORKSPACE,
    "Workspaces.retrieve": WORKSPACE,
    "Workspaces.partial_update": WORKSPACE,
    "McpServers.list": page(SERVER),
    "McpServers.create": SERVER,
    "McpServers.retrieve": SERVER,
    "McpServers.partial_update": SERVER | {"enabled": False},
    "McpServers.check": {"ok": True, "reason": "", "seconds": 0.4, "tools": 3},
    "Models.list": page(MODEL),
    "Models.create": MODEL,
    "Models.retrieve": MODEL,
    "Models.partial_update": MODEL | {"parallel": 4},
    "Models.check": {
        "ok": True, "reason": "", "seconds": 0.1, "endpoint": "http://gpu1:11434",
        "model": "qwen2.5-coder:7b", "version": "0.13.0", "loaded": False, "running": [],
    },
}  # fmt: skip
"""Call, and where that matters the media type → answer."""


def submissions(serializer: serializers.Serializer[Any]) -> dict[str, JSON]:
    """The least that is asked for, and the same with most of what may be said."""
    least = serializer.get_initial()
    return {"Least": least | {"workspace": "shop"}, "More": OPTIONS | least}


def lines(body: JSON, items: str) -> str:
    """The same as JSON Lines."""
    options = {name: value for name, value in body.items() if name != items}
    return "".join(json.dumps(line) + "\n" for line in (options, *body[items]))


def answer(view: Any, name: str, media_type: str) -> Any:
    if name == "Submissions.post":
        return batch(view.kind_name)
    return ANSWERS.get(f"{name} {media_type}", ANSWERS.get(name))

"""System checks: what is configured wrongly is said at start, not at the first task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from agents.contract import Processor
from batches import registry

WORKER = "worker"
"""The tag of the checks that a worker runs at start."""
FIELDS = {"processor", "endpoint", "items", "queue"}
PARTS = [name for name in dir(Processor) if not name.startswith("_")] + list(
    Processor.__annotations__
)


@register(WORKER)
def kinds_can_run(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001 - part of Django's protocol
    **kwargs: Any,  # noqa: ARG001
) -> list[CheckMessage]:
    """Every kind of TASK_KINDS is complete, and its processor has all a processor must have."""
    messages: list[CheckMessage] = []
    for name, entry in settings.TASK_KINDS.items():
        if missing := FIELDS - entry.keys():
            messages.append(
                Error(
                    f"TASK_KINDS[{name!r}] lacks {', '.join(sorted(missing))}.", id="batches.E001"
                )
            )
            continue
        try:
            processor = registry.kind(name).processor
        except (ImportError, TypeError) as error:
            messages.append(
                Error(
                    f"TASK_KINDS[{name!r}]: {entry['processor']} cannot be made: {error}",
                    id="batches.E002",
                )
            )
            continue
        if absent := [part for part in PARTS if not hasattr(processor, part)]:
            messages.append(
                Error(
                    f"TASK_KINDS[{name!r}]: {entry['processor']} lacks {', '.join(absent)}.",
                    id="batches.E003",
                )
            )
    return messages

"""System checks: what is configured wrongly is said at start, not at the first task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register

from agents.contract import Processor
from batches import registry
from batches.backends import brokers

WORKER = "worker"
"""The tag of the checks that a worker runs at start."""
FIELDS = {"processor", "endpoint", "items", "queue"}
PARTS = [name for name in dir(Processor) if not name.startswith("_")] + list(
    Processor.__annotations__
)


@register(WORKER)
def broker_fits(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001 - part of Django's protocol
    **kwargs: Any,  # noqa: ARG001
) -> list[CheckMessage]:
    """What is set for Celery holds on the broker and the database that are configured."""
    url = settings.CELERY_BROKER_URL
    if not url:
        return []
    messages: list[CheckMessage] = []
    if settings.CELERY_QUORUM_QUEUES and brokers.scheme(url) not in brokers.RABBITMQ:
        messages.append(
            Error(
                "CELERY_QUORUM_QUEUES is true, but CELERY_BROKER_URL is not RabbitMQ's.",
                hint="Unset it, or use amqp://.",
                id="batches.E004",
            )
        )
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        messages.append(
            checks.Warning(
                "Celery works on one machine only: the database is a SQLite file.",
                hint="Set DATABASE_URL to a PostgreSQL server before workers start elsewhere.",
                id="batches.W001",
            )
        )
    return messages


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
        parts = [*PARTS, "tidy"] if entry.get("tidy") else PARTS
        if absent := [part for part in parts if not hasattr(processor, part)]:
            messages.append(
                Error(
                    f"TASK_KINDS[{name!r}]: {entry['processor']} lacks {', '.join(absent)}.",
                    id="batches.E003",
                )
            )
    return messages

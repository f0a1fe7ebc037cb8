"""The Celery application: ``celery -A config worker``."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from kombu import Exchange, Queue

from batches.backends import brokers

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# Celery runs the checks of the pages too, for as long as the rest of its start, and says nothing of
# what they found: its workers run their own.
os.environ["CELERY_SKIP_CHECKS"] = "true"

PRIORITIES = {
    "high_priority": 10,
    "agent_tasks": 7,
    "validation": 6,
    "tests": 6,
    "mcp_operations": 5,
    "default": 5,
    "low_priority": 1,
}
"""The seven queues as the migration made them. Workers read them in this order where the broker has
one; the exact order, with priorities that were changed since, is that of the dispatcher."""


def queues() -> list[Queue]:
    """The seven, most urgent first."""
    arguments: dict[str, Any] = {}
    if brokers.scheme(settings.CELERY_BROKER_URL) in brokers.RABBITMQ:
        arguments = (
            {"x-queue-type": "quorum"} if settings.CELERY_QUORUM_QUEUES else {"x-max-priority": 10}
        )
    ordered = sorted(PRIORITIES, key=lambda name: -PRIORITIES[name])
    exchange = Exchange("ollama_coder", type="direct")
    return [Queue(name, exchange, routing_key=name, queue_arguments=arguments) for name in ordered]


if not settings.CELERY_BROKER_URL:
    raise ImproperlyConfigured(
        "There is no broker: set CELERY_BROKER_URL, to redis://127.0.0.1:6379/0 for example."
    )
app = Celery("ollama_coder")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.task_queues = queues()
app.conf.imports = ("batches.consumers.celery",)

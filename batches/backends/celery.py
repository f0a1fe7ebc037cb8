"""Publishing to a Celery broker: wake-ups for rows, which may be lost or doubled."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string
from kombu import Connection
from kombu.pools import producers

from batches import registry
from batches.backends import brokers
from batches.messages import Message


class NotPublished(Exception):
    """The broker did not take all of the messages; ``left`` are those that it did not."""

    def __init__(self, reason: str, left: Sequence[Message]) -> None:
        super().__init__(reason)
        self.left = left


AT_ONCE = 0.5
"""Seconds within which a connection that the broker has closed fails."""
_ours = threading.local()


def _connection() -> Connection:
    """One that fails at once. Kombu pools producers by what a connection is made of."""
    url = settings.CELERY_BROKER_URL
    if getattr(_ours, "url", None) != url:
        options = settings.CELERY_BROKER_TRANSPORT_OPTIONS | brokers.publisher_options(url)
        _ours.connection = Connection(
            url, connect_timeout=brokers.CONNECT_SECONDS, transport_options=options
        )
        _ours.url = url
    return _ours.connection


def reach() -> None:
    """Speak to the broker.

    Raises:
        NotPublished: it is away, or does not answer; the text says why.
    """
    try:
        with _connection().clone() as broker:
            broker.ensure_connection(
                max_retries=1, interval_start=0, timeout=brokers.ANSWER_SECONDS
            )
    except Exception as error:
        raise NotPublished(_words(error), ()) from error


def publish(messages: Sequence[Message]) -> None:
    """Tell Celery workers of these rows.

    Raises:
        NotPublished: the broker is away, or does not answer; some messages may have been sent.
    """
    began = time.monotonic()
    try:
        _publish(messages)
    except NotPublished as failed:
        if time.monotonic() - began > AT_ONCE:
            raise
        # RabbitMQ closes a connection that was silent for minutes: a new one may do. What took its
        # time was no such thing, but a broker that does not answer.
        _publish(failed.left)


def _publish(messages: Sequence[Message]) -> None:
    """On one connection, a kept one if there is any."""
    app = import_string(settings.CELERY_APPLICATION)
    kinds = registry.kinds()
    sent = 0
    try:
        with producers[_connection()].acquire(block=True, timeout=brokers.ANSWER_SECONDS) as out:
            for message in messages:
                _send(app, out, message, kinds[message.kind].task)
                sent += 1
    except Exception as error:
        # Whatever it is, and each transport has errors of its own: what was not sent is unmarked.
        raise NotPublished(_words(error), messages[sent:]) from error


def _send(app: Any, producer: Any, message: Message, name: str) -> None:
    app.send_task(
        name,
        args=[str(message.task_id)],
        task_id=str(message.message_id),
        queue=message.queue,
        priority=brokers.message_priority(settings.CELERY_BROKER_URL, message.priority),
        producer=producer,
        retry=False,
    )


@dataclass(frozen=True, slots=True)
class Report:
    """That a task ended, in the name of the worker that began it and cannot tell any more."""

    task_id: UUID
    worker: str
    status: str
    why: str


def report(ended: Sequence[Report]) -> None:
    """Let Flower hear of them: it goes by events, and would show them as started for ever.

    Raises:
        NotPublished: the broker is away, or does not answer.
    """
    app = import_string(settings.CELERY_APPLICATION)
    try:
        with producers[_connection()].acquire(block=True, timeout=brokers.ANSWER_SECONDS) as out:
            for one in ended:
                events = app.events.Dispatcher(
                    out.connection, one.worker, enabled=False, buffer_while_offline=False
                )
                fields: dict[str, Any] = {"uuid": str(one.task_id)}
                match one.status:
                    case "SUCCESS":
                        events.publish("task-succeeded", fields | {"result": "succeeded"}, out)
                    case "FAILURE":
                        events.publish("task-failed", fields | {"exception": one.why}, out)
                    case _:
                        events.publish("task-revoked", fields, out)
    except Exception as error:
        raise NotPublished(_words(error), ()) from error


def _words(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}"

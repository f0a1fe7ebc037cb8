"""Publishing to a Celery broker: wake-ups for rows, which may be lost or doubled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string
from kombu import Connection
from kombu.pools import producers

from batches import identity, registry
from batches.backends import brokers
from batches.messages import Message

T = TypeVar("T")


class NotPublished(Exception):
    """The broker did not take everything; ``left`` is what it did not."""

    def __init__(self, reason: str, left: Sequence[Any]) -> None:
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
            url,
            transport=brokers.transport(url),
            connect_timeout=brokers.CONNECT_SECONDS,
            transport_options=options,
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
    _insist(_publish, messages)


def _insist(send: Callable[[Sequence[T]], None], what: Sequence[T]) -> None:
    """Once more on a new connection, where an old one turned out to be closed.

    RabbitMQ closes one that was silent for minutes, and a process of the pool that is forked shuts
    those of its parent. What took its time was no such thing, but a broker that does not answer.
    """
    began = time.monotonic()
    try:
        send(what)
    except NotPublished as failed:
        if time.monotonic() - began > AT_ONCE:
            raise
        send(failed.left)


def _publish(messages: Sequence[Message]) -> None:
    """On one connection, a kept one if there is any, and in one go where the broker takes that."""
    app = import_string(settings.CELERY_APPLICATION)
    kinds = registry.kinds()
    sent = 0
    try:
        with producers[_connection()].acquire(block=True, timeout=brokers.ANSWER_SECONDS) as out:
            at_once = out.supports_batch_publish
            with out.batch():
                events, declared = [], set[str]()
                for message in messages:
                    name = kinds[message.kind].task
                    events.append(_send(app, out, message, name, known=message.queue in declared))
                    declared.add(message.queue)
                    sent += not at_once
                _tell_flower(app, out, events)
    except Exception as error:
        # Whatever it is, and each transport has errors of its own: what was not sent is unmarked.
        raise NotPublished(_words(error), messages[sent:]) from error


def _send(app: Any, producer: Any, message: Message, name: str, *, known: bool) -> dict[str, Any]:
    """As ``send_task`` does, which looks up at each call what is known here.

    ``known``: its queue was declared on this connection a moment ago. Returns what Flower is to
    hear of it.
    """
    if node := identity.celery_node(message.began_by):
        # Flower believes no event that logically comes before one that it has seen, but for a
        # retry: without one it would show the end of an earlier attempt until the task succeeds.
        _event(app, producer, node, "task-retried", message.message_id)
    arguments, queue = [str(message.task_id)], app.amqp.queues[message.queue]
    built = app.amqp.as_task_v2(
        str(message.message_id),
        name,
        args=arguments,
        argsrepr=repr(arguments),
        kwargsrepr="{}",
        create_sent_event=True,
        ignore_result=None,
    )
    app.amqp.send_task_message(
        producer,
        name,
        built._replace(sent_event=None),
        queue=queue,
        priority=brokers.message_priority(settings.CELERY_BROKER_URL, message.priority),
        retry=False,
        declare=[] if known else None,
    )
    sent: dict[str, Any] = built.sent_event
    return sent | {"queue": queue.name, "exchange": "", "routing_key": queue.name}


def _tell_flower(app: Any, producer: Any, sent: Sequence[dict[str, Any]]) -> None:
    """That they were sent: one message for all, as workers tell of several tasks."""
    if not app.conf.task_send_sent_event:
        return
    events = app.events.Dispatcher(
        producer.connection,
        enabled=False,
        buffer_while_offline=False,
        buffer_group=["task"],
        buffer_limit=len(sent) + 1,
    )
    events.producer, events.enabled = producer, True
    for fields in sent:
        events.send("task-sent", **fields)
    events.flush(errors=False)


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
    _insist(_report, ended)


def _report(ended: Sequence[Report]) -> None:
    app = import_string(settings.CELERY_APPLICATION)
    told = 0
    try:
        with producers[_connection()].acquire(block=True, timeout=brokers.ANSWER_SECONDS) as out:
            for one in ended:
                match one.status:
                    case "SUCCESS":
                        kind, fields = "task-succeeded", {"result": "succeeded"}
                    case "FAILURE":
                        kind, fields = "task-failed", {"exception": one.why}
                    case _:
                        kind, fields = "task-revoked", {}
                _event(app, out, one.worker, kind, one.task_id, **fields)
                told += 1
    except Exception as error:
        raise NotPublished(_words(error), ended[told:]) from error


def _event(app: Any, producer: Any, node: str, kind: str, message: UUID, **fields: str) -> None:
    """In the name of a worker that does not say it itself."""
    events = app.events.Dispatcher(
        producer.connection, node, enabled=False, buffer_while_offline=False
    )
    events.publish(kind, {"uuid": str(message), **fields}, producer)


def _words(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}"

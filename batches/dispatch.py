"""Sending Celery workers what they need to hear, between the rows and the broker.

The rows are marked first, in a transaction; messages are published after its commit. What cannot be
published is unmarked, and tried again by whoever dispatches next: every worker does, every second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from django.db import connection

from batches.messages import Message
from batches.queue import dispatch as rows
from batches.queue import resources
from batches.queue.windows import Reader, readers

logger = logging.getLogger(__name__)


class BrokerAway(Exception):
    """The broker took no message; the text says why. The tasks wait in the database."""


@cache
def _publisher() -> tuple[Callable[[Sequence[Message]], None], type[Exception]]:
    """Imported on first use: an installation without a broker never needs Celery."""
    module = import_module("batches.backends.celery")
    return module.publish, module.NotPublished


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a dispatch takes for granted for a moment: who reads, and which resources are away."""

    live: Sequence[Reader]
    away: frozenset[str]

    @classmethod
    def now(cls) -> Surroundings:
        return cls(readers(), resources.away())


def dispatch(seen: Surroundings | None = None, *, room: bool = False) -> int:
    """Publish what the windows have room for; returns how many messages were sent.

    ``room``: there is some, as far as the caller knows.

    Raises:
        BrokerAway: what was not sent is unmarked again.
    """
    seen = seen or Surroundings.now()
    messages = rows.tell(seen.away, seen.live, room=room)
    if messages:
        _publish(messages)
    return len(messages)


def repeat() -> int:
    """Publish again what nobody came with for too long.

    Raises:
        BrokerAway: as above.
    """
    messages = rows.tell_again()
    if messages:
        logger.warning("%d messages seem to be lost, sending them again", len(messages))
        _publish(messages)
    return len(messages)


def _publish(messages: Sequence[Message]) -> None:
    publish, not_published = _publisher()
    try:
        publish(messages)
    except not_published as error:
        left: Sequence[Message] = error.left  # type: ignore[attr-defined]
        rows.not_told(message.task_id for message in left)
        raise BrokerAway(str(error)) from error


def reach() -> None:
    """Speak to the broker, of which nothing is wanted.

    Raises:
        BrokerAway: with the reason.
    """
    module = import_module("batches.backends.celery")
    try:
        module.reach()
    except module.NotPublished as error:
        raise BrokerAway(str(error)) from error


def reachable() -> bool:
    """Does the broker answer?"""
    try:
        reach()
    except BrokerAway:
        return False
    return True


NUDGE_SECONDS = 1.0
"""How long somebody who submitted waits for the broker."""
_nudging = threading.Lock()


def nudge() -> bool:
    """Dispatch now rather than when a worker looks; False where the broker is slow or away.

    In a thread, since a broker that hangs does so for longer than anybody should wait. There is
    one at a time, and others wait for it as long: more would only hang as well.
    """
    deadline = time.monotonic() + NUDGE_SECONDS
    if not _nudging.acquire(timeout=NUDGE_SECONDS):
        return False
    done: Future[bool] = Future()
    threading.Thread(target=_nudge, args=(done,), name="nudge", daemon=True).start()
    try:
        return done.result(timeout=max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        return False


def _nudge(done: Future[bool]) -> None:
    told = False
    try:
        dispatch()
        told = True
    except BrokerAway as error:
        logger.warning("the broker is away, tasks wait in the database: %s", error)
    except Exception:
        logger.exception("dispatching failed: workers will see to it")
    finally:
        connection.close()
        _nudging.release()
        done.set_result(told)

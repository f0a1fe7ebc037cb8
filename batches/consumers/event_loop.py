"""What Celery's event loop does otherwise than it comes: fewer events, no connection kept, and
processes of the pool that are replaced when they end."""

from __future__ import annotations

from typing import Any

from django.db import connection

EVENTS_WITHIN = 0.1
"""Seconds in which Flower hears of what a task did."""
LOOK_AGAIN = 0.02
"""Seconds between looks at a process that is about to end."""


def attend(consumer: Any) -> None:
    """At each connection to the broker."""
    gather_events(consumer)
    if consumer.hub is not None:
        consumer.hub.on_tick.add(let_go_of_database)
        replace_at_once(consumer.pool._pool)  # noqa: SLF001 - Celery has no other name for it


def gather_events(consumer: Any) -> None:
    """Let the events of several tasks go out together.

    Celery publishes them at every turn of its loop, which costs a worker as much as the messages.
    """
    events, hub = consumer.event_dispatcher, consumer.hub
    if events is None or hub is None:
        return
    waiting = False

    def flush() -> None:
        nonlocal waiting
        waiting = False
        events.flush()

    def buffered() -> None:
        nonlocal waiting
        if not waiting:
            waiting = True
            hub.call_later(EVENTS_WITHIN, flush)

    events.on_send_buffered = buffered


def let_go_of_database() -> None:
    """Keep no connection from one turn of the event loop to the next.

    Celery writes a record of its own there now and then: that of a revoke, or of a child that died.
    A connection that the database has closed meanwhile would fail it, and all that come after.
    """
    connection.close()


def replace_at_once(pool: Any) -> None:
    """See to it that a process that ends is noticed, and with it the message that it was given.

    Celery looks once when the process closes its end of a pipe. It may not have ended by then, and
    is found by a timer of five seconds: so long there is a process less, and a message that was
    written to it in its last moment waits (celery/celery#9588).
    """
    if pool.__dict__.get("_event_process_exit") is not None:
        return  # at an earlier connection
    ends = pool._event_process_exit  # noqa: SLF001 - what Celery calls

    def ends_or_will(hub: Any, process: Any) -> None:
        ends(hub, process)

        def look() -> None:
            if process.exitcode is None:
                hub.call_later(LOOK_AGAIN, look)
            else:
                pool.maintain_pool()

        hub.call_later(LOOK_AGAIN, look)

    pool._event_process_exit = ends_or_will  # noqa: SLF001

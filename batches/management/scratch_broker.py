"""Room at the configured broker that nobody else uses, as ``scratch`` is for the database."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import CommandError
from kombu import Connection
from kombu.exceptions import KombuError

from batches.backends import brokers

HIGHEST_DATABASE = 15
"""Of a Redis server as it is shipped."""
MARK = "ollama_coder_scratch"
QUEUES = (
    "", ".high_priority", ".agent_tasks", ".validation", ".tests", ".mcp_operations", ".default",
    ".low_priority",
)  # fmt: skip
"""What may follow the name in that of a queue."""


@contextlib.contextmanager
def scratch_broker() -> Iterator[dict[str, str]]:
    """Variables for ``scratch_installation``; what is left there is deleted after the block.

    On Redis an empty database of the same server. On RabbitMQ the same virtual host, where queues
    and exchange are called BENCHMARK_NAME.

    Raises:
        CommandError: there is no broker, or none where that can be had.
    """
    url = settings.CELERY_BROKER_URL
    name = f"scratch_{os.getpid()}_{secrets.token_hex(4)}"
    if not url:
        raise CommandError("There is no broker: set CELERY_BROKER_URL, or measure the database.")
    if brokers.scheme(url) in brokers.RABBITMQ:
        room = _queues(url, name)
    elif brokers.scheme(url) in {"redis", "rediss"}:
        room = _redis_database(url)
    else:
        raise CommandError(
            "Measured are Redis and RabbitMQ at one address: "
            f"CELERY_BROKER_URL begins with {brokers.scheme(url)}://."
        )
    with room as address:
        yield {"CELERY_BROKER_URL": address, "BENCHMARK_NAME": name}


@contextlib.contextmanager
def _redis_database(url: str) -> Iterator[str]:
    import redis  # noqa: PLC0415 - only where the broker is one

    with contextlib.ExitStack() as cleanup:
        for number in range(HIGHEST_DATABASE, 0, -1):
            address = urlsplit(url)._replace(path=f"/{number}").geturl()
            server = cleanup.enter_context(redis.Redis.from_url(address))
            try:
                # Marked first: of two that look at the same moment one finds the other's mark.
                if not server.set(MARK, os.getpid(), nx=True):
                    continue
                if server.dbsize() > 1:
                    server.delete(MARK)
                    continue
            except redis.ResponseError:
                continue  # it has fewer databases
            except redis.RedisError as error:
                raise CommandError(f"The broker does not answer: {error}") from error
            try:
                yield address
            finally:
                server.flushdb()
            return
    raise CommandError("No database from 1 to 15 of the Redis server is empty.")


@contextlib.contextmanager
def _queues(url: str, name: str) -> Iterator[str]:
    try:
        with Connection(url, connect_timeout=brokers.ANSWER_SECONDS) as broker:
            broker.ensure_connection(max_retries=1, timeout=brokers.ANSWER_SECONDS)
    except (KombuError, OSError) as error:
        raise CommandError(f"The broker does not answer: {error}") from error
    try:
        yield url
    finally:
        with Connection(url) as broker, broker.channel() as channel:
            for ending in QUEUES:
                channel.queue_delete(f"{name}{ending}")
            channel.exchange_delete(name)

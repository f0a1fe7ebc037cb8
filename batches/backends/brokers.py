"""What the addresses of message brokers mean to us: which are served, and with what options."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

REDIS = frozenset({"redis", "rediss", "sentinel"})
RABBITMQ = frozenset({"amqp", "amqps", "pyamqp"})
SQS = frozenset({"sqs"})
SERVED = REDIS | RABBITMQ | SQS

CONNECT_SECONDS, ANSWER_SECONDS = 1.0, 2.0
"""For a publisher. A closed port takes Celery 5 s with its own values, a hung Redis 45 s."""


def scheme(url: str) -> str:
    return urlsplit(url).scheme.lower()


def address(url: str) -> str:
    """The address, if it is one of a broker that is served; empty stays empty.

    Raises:
        ImproperlyConfigured: it is not. The value may hold a password, so it is not repeated.
    """
    if url and scheme(url) not in SERVED:
        raise ImproperlyConfigured(
            "CELERY_BROKER_URL must begin with redis://, rediss://, sentinel://, amqp://, amqps:// "
            "or sqs://."
        )
    return url


def transport(url: str) -> str | None:
    """The dotted path of what speaks to it, where that is not kombu's own."""
    if scheme(url) in SQS:
        return "batches.backends.sqs_client:Transport"
    plain_redis = scheme(url) == "redis" and ";" not in url
    return "batches.backends.redis_client:Transport" if plain_redis else None


def transport_options(url: str, master: str) -> dict[str, Any]:
    """For workers and publishers alike; ``master`` is the name that Sentinel has for it.

    Raises:
        ImproperlyConfigured: it is Sentinel, and there is no such name.
    """
    if scheme(url) not in REDIS:
        return {}
    # Queues in the order in which they are declared: by their priority.
    options = {"queue_order_strategy": "priority", "visibility_timeout": 4 * 3600}
    if scheme(url) != "sentinel":
        return options
    if not master:
        raise ImproperlyConfigured(
            "CELERY_REDIS_MASTER must be the name of the master that the Sentinels of "
            "CELERY_BROKER_URL watch, such as mymaster."
        )
    return {**options, "master_name": master}


def publisher_options(url: str) -> dict[str, Any]:
    """For publishers alone: they fail at once, since what was not sent is sent later."""
    if scheme(url) in REDIS:
        return {
            "socket_timeout": ANSWER_SECONDS,
            "socket_connect_timeout": CONNECT_SECONDS,
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.2,
        }
    if scheme(url) in RABBITMQ:
        # Without a confirmation what was written to a broker that hangs would count as sent.
        return {
            "max_retries": 1,
            "read_timeout": ANSWER_SECONDS,
            "write_timeout": ANSWER_SECONDS,
            "confirm_publish": True,
        }
    return {}


def message_priority(url: str, priority: int) -> int | None:
    """A task's priority (10 is most urgent) as its broker understands it; None: it has none."""
    if scheme(url) in REDIS:
        return 9 - min(priority, 9)  # 0 is most urgent there
    return priority if scheme(url) in RABBITMQ else None

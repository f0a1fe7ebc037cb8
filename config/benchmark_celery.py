"""The Celery application of a benchmark: ours, with queues that no other installation reads."""

from __future__ import annotations

import os

from kombu import Exchange, Queue

from config.celery import app, queues

__all__ = ["app"]

NAME = os.environ["BENCHMARK_NAME"]

app.conf.task_queues = [
    Queue(
        f"{NAME}.{queue.name}",
        Exchange(NAME, type="direct"),
        routing_key=f"{NAME}.{queue.name}",
        queue_arguments=queue.queue_arguments,
        alias=queue.name,
    )
    for queue in queues()
]

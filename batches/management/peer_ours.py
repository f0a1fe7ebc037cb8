"""Ours as one of the two that ``batches.management.peers`` measures: lines in, JSON out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from http import HTTPStatus

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import CommandError
from django.test import Client
from django_celery_results.models import TaskResult
from knox.models import AuthToken
from kombu import Connection

from batches import operations
from batches.management import installation
from batches.management.benchmarking import commit_policy, database_name, verify
from batches.management.peer import answer
from batches.models import Batch, Task
from batches.states import BackendName, BatchState
from batches.submission import Item, Submission

APPLICATION = "config.benchmark_celery"


def serve() -> None:
    """Until standard input ends."""
    installation.migrate()
    settings.STATIC_ROOT.mkdir(parents=True)  # or there is a warning with the first request
    owner = User.objects.create_superuser("benchmark")
    with Connection(settings.CELERY_BROKER_URL) as broker:
        kind = broker.transport.driver_type
    answer(
        application=APPLICATION,
        database=database_name(),
        commit_policy=commit_policy(),
        broker={"redis": "Redis", "amqp": "RabbitMQ"}[kind],
    )
    requests: dict[str, Callable[[User, int], float]] = {"run": _run, "answer": _submit_over_http}
    for line in sys.stdin:
        verb, number = line.split()
        answer(seconds=requests[verb](owner, int(number)))


def _run(owner: User, number: int) -> float:
    """Seconds from the call until the batch is closed and every row of it is verified."""
    began = time.monotonic()
    items = (Item(payload={}) for _ in range(number))
    submission = Submission(kind="noop", items=items, backend=BackendName.CELERY)
    batch = operations.submit(owner, submission)
    _wait_for(batch)
    verify(batch)
    ids = {str(task) for task in Task.objects.filter(batch=batch).values_list("pk", flat=True)}
    right = TaskResult.objects.filter(status="SUCCESS", result="{}")
    if not ids <= set(right.values_list("task_id", flat=True)):
        raise CommandError("Celery's results are not what the rows say.")
    return time.monotonic() - began


def _submit_over_http(owner: User, number: int) -> float:
    """Seconds until a submission over REST is answered; it is cancelled then."""
    _, token = AuthToken.objects.create(user=owner)
    client = Client(SERVER_NAME="localhost", HTTP_AUTHORIZATION=f"Token {token}")
    body = json.dumps({"items": [{}] * number})
    began = time.monotonic()
    answered = client.post("/batch/celery/noop", body, content_type="application/json")
    seconds = time.monotonic() - began
    if answered.status_code != HTTPStatus.ACCEPTED:
        raise CommandError(f"A submission was answered with {answered.status_code}.")
    batch = Batch.objects.get(pk=answered.json()["group_id"])
    operations.cancel_batch(batch)
    _wait_for(batch)
    return seconds


def _wait_for(batch: Batch) -> None:
    while not Batch.objects.filter(pk=batch.pk, state=BatchState.DONE).exists():
        time.sleep(0.05)  # as the other one does

"""The application of plain Celery that ours is measured against, and its client.

``python -m config.plain_celery`` obeys ``batches.management.peers`` over its standard streams.
"""

from __future__ import annotations

import json
import os
import sys
import time

import django
from celery import Celery
from django.core.management import call_command
from kombu import Exchange, Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.plain")
NAME = os.environ["BENCHMARK_NAME"]

app = Celery("plain")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.task_queues = [Queue(NAME, Exchange(NAME, type="direct"), routing_key=NAME)]
app.conf.task_default_queue = NAME


@app.task(name="noop")  # type: ignore[untyped-decorator]
def noop() -> str:
    return "succeeded"


def run(number: int) -> float:
    """Seconds from the first call until every task has its TaskResult."""
    from django_celery_results.models import TaskResult  # noqa: PLC0415 - once Django is set up

    TaskResult.objects.all().delete()
    began = time.monotonic()
    sent = {noop.delay().id for _ in range(number)}
    while TaskResult.objects.filter(status="SUCCESS").count() < number:
        time.sleep(0.05)
    stored = TaskResult.objects.filter(status="SUCCESS", result=json.dumps("succeeded"))
    if set(stored.values_list("task_id", flat=True)) != sent:
        sys.exit("The results of plain Celery are not those of its tasks.")
    return time.monotonic() - began


def main() -> None:
    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    answer({"application": "config.plain_celery"})
    for line in sys.stdin:
        answer({"seconds": run(int(line.removeprefix("run ")))})


def answer(told: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""The shipped settings and two kinds of task that do nothing, for ``manage.py benchmark``."""

from config.settings import *  # noqa: F403
from config.settings import TASK_KINDS

TASK_KINDS = TASK_KINDS | {
    kind: {
        "processor": f"agents.processors.noop.{name}",
        "endpoint": kind,
        "items": "items",
        "queue": "default",
    }
    for kind, name in {"noop": "Noop", "clock": "Clock"}.items()
}

CELERY_APPLICATION = "config.benchmark_celery.app"

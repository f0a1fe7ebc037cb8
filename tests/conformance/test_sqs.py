"""SQS: no order and no control, but the same work. Moto stands for Amazon's servers."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest
from django_celery_results.models import TaskResult

from batches import operations
from tests.brokers import Broker
from tests.processes.fleet import Fleet, done, outcomes, pids, submit, task_of, until

pytestmark = [pytest.mark.backends("sqs"), pytest.mark.long]


def test_tasks_run_are_tried_again_cancelled_and_retried(
    fleet: Fleet, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in fleet.environment.items():
        monkeypatch.setenv(name, str(value))
    worker = fleet.start(slots=2)
    many = submit("noop", *({} for _ in range(4)))
    again = submit("misbehave", {"how": "flaky", "until": 2})
    refused = submit("misbehave", {"how": "reject"})
    running = submit("linger", {"gate": str(tmp_path / "gate"), "pids": str(tmp_path / "pids")})
    pids(tmp_path / "pids")
    operations.cancel_task(task_of(running))
    assert done(running).summary["cancelled"] == 1
    (tmp_path / "gate").touch()
    operations.retry_task(task_of(running))
    for batch in (many, again, running):
        assert done(batch).summary["succeeded"] == batch.total
    assert outcomes(task_of(again)) == ["error", "succeeded"]
    assert outcomes(task_of(done(refused))) == ["rejected"]
    until(
        lambda: TaskResult.objects.filter(status="SUCCESS").count() == 6,
        what="the records follow",
    )

    broker.kill()
    asked = refusing(broker.port)
    until(lambda: len(asked) > 10, what="the worker asks again and again")
    assert worker.process.poll() is None, worker.log


def refusing(port: int) -> list[str]:
    """Answer 503 there, as Amazon does at times; returns what has been asked so far."""
    asked: list[str] = []

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return asked

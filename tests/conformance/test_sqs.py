"""SQS: no order and no control, but the same work. Moto stands for Amazon's servers."""

from __future__ import annotations

from pathlib import Path

import pytest
from django_celery_results.models import TaskResult

from batches import operations
from tests.processes.fleet import Fleet, done, outcomes, pids, submit, task_of, until

pytestmark = [pytest.mark.backends("sqs"), pytest.mark.long, pytest.mark.timeout(180)]


def test_tasks_run_are_tried_again_cancelled_and_retried(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in fleet.environment.items():
        monkeypatch.setenv(name, str(value))
    fleet.start(slots=2)
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

"""An answer that is settled alone leaves what one leaves that is settled with others."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django_celery_results.models import TaskResult

from batches.consumers.celery_record import CeleryRecord
from batches.models import Attempt, Batch, Task
from batches.queue.claim import Claimed
from batches.queue.settle import reap, settle
from batches.queue.verdicts import Verdict
from batches.states import AttemptOutcome, BatchState
from tests.queueing import end, expire, skip_backoff, take

pytestmark = pytest.mark.django_db

RECORDED = ("status", "task_name", "task_args", "worker", "result", "traceback", "content_type")


def record_of(claimed: Claimed) -> CeleryRecord:
    record = CeleryRecord()
    record.of(claimed, "celery@here")
    return record


def left_by(claimed: Claimed) -> dict[str, Any]:
    """What the task's rows say, but for ids and times."""
    task = Task.objects.get(pk=claimed.lease.task_id)
    row = {
        field.attname: getattr(task, field.attname)
        for field in Task._meta.concrete_fields
        if field.attname not in {"id", "position", "custom_id", "payload"}
    }
    for name in ("started_at", "finished_at", "created_at"):
        row[name] = row[name] is not None
    attempts = task.attempts.values("number", "worker", "outcome", "error", "sandbox")
    celery = TaskResult.objects.filter(task_id=str(task.pk)).values(*RECORDED).get()
    celery["task_args"] = celery["task_args"].replace(str(task.pk), "ID")
    return {"row": row, "attempts": list(attempts), "celery": celery}


@pytest.mark.parametrize("outcome", ["succeeded", "rejected", "limit", "error", "cancelled"])
def test_what_is_written_does_not_depend_on_who_is_settled_with_it(operator, make_batch, outcome):
    make_batch(operator, 3)
    alone, one, other = take()
    more: dict[str, Any] = {
        "outcome": AttemptOutcome(outcome), "result": {"x": [1, "ä"]}, "error": "as it says",
        "seconds": 2.5, "sandbox": "bubblewrap", "retry_in": 60.0,
    }  # fmt: skip
    [settled] = settle([Verdict(alone.lease, **more)], record_of(alone))
    with_another = settle(
        [Verdict(one.lease, **more), Verdict(other.lease, AttemptOutcome.SUCCEEDED)],
        record_of(one),
    )
    [same] = [item for item in with_another if item.lease == one.lease]
    assert (settled.state, settled.failure, settled.error) == (same.state, same.failure, same.error)
    told, expected = left_by(alone), left_by(one)
    for side in (told, expected):
        assert (side["row"].pop("run_after") is None) == (outcome != "error")
    assert told == expected
    times = Attempt.objects.get(task=alone.lease.task_id)
    assert 2.4 < (times.finished_at - times.started_at).total_seconds() < 2.6


def test_a_void_answer_leaves_celerys_record_alone(operator, make_batch):
    make_batch(operator, 1)
    [late] = take(worker="slow")
    expire(late.lease.task_id)
    reap()
    skip_backoff()
    [second] = take(worker="quick")
    settle([Verdict(second.lease, AttemptOutcome.SUCCEEDED, result={"n": 2})], record_of(second))
    for outcome in (AttemptOutcome.SUCCEEDED, AttemptOutcome.REJECTED):
        assert settle([Verdict(late.lease, outcome, result={"n": 1})], record_of(late)) == []
    assert TaskResult.objects.get().result == '{"n": 2}'
    assert [a.number for a in Attempt.objects.order_by("number")] == [1, 2]


def test_the_last_answer_closes_the_batch(operator, make_batch):
    batch = make_batch(operator, 3)
    [first] = take(1)
    [settled] = end(first)
    assert settled.others_wait == (connection.vendor == "postgresql")
    second, third = take()
    assert [end(one)[0].others_wait for one in (second, third)] == [False, False]
    assert Batch.objects.get(pk=batch.pk).state == BatchState.DONE


def test_a_failure_that_stops_its_batch_closes_it_although_others_waited(operator, make_batch):
    batch = make_batch(operator, 3, on_failure="stop")
    [first] = take(1)
    end(first, AttemptOutcome.REJECTED)
    batch.refresh_from_db()
    assert batch.state == BatchState.DONE
    assert batch.summary["cancelled"] == 2

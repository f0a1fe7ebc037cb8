"""What cannot be stored holds up nothing else."""

from __future__ import annotations

import logging

import pytest
from django.utils import timezone

from batches.models import LogLine, Task
from batches.queue.verdicts import File, Verdict
from batches.states import AttemptOutcome
from batches.supervision.ledger import Ledger
from tests.queueing import take

pytestmark = pytest.mark.django_db


def test_a_log_line_that_cannot_be_stored_holds_up_neither_the_others_nor_an_answer(
    operator, make_batch
):
    make_batch(operator, 1)
    [claimed] = take()
    task = claimed.lease.task_id
    ledger = Ledger()
    for event, fields in (("good", {}), ("bad", {"x": float("nan")}), ("also good", {})):
        ledger.log(LogLine(task_id=task, attempt=1, at=timezone.now(), event=event, fields=fields))
    ledger.add(claimed, Verdict(claimed.lease, AttemptOutcome.SUCCEEDED, result={}))
    ledger.commit()
    assert list(LogLine.objects.values_list("event", flat=True)) == ["good", "also good"]
    assert Task.objects.get(pk=task).state == "succeeded"


def test_an_answer_whose_files_cannot_be_stored_is_an_error(operator, make_batch):
    make_batch(operator, 1)
    [claimed] = take()
    answer = Verdict(claimed.lease, AttemptOutcome.SUCCEEDED, result={"x": 1})
    kept = (File("a", "text/plain", "a", 1),)
    assert answer.with_files(kept, "").files == kept
    failed = answer.with_files((), "the disk is full")
    assert (failed.outcome, failed.result) == (AttemptOutcome.ERROR, None)
    assert failed.error == "the disk is full"


def test_each_answer_that_counts_is_in_the_log_with_its_ids(operator, make_batch, caplog):
    batch = make_batch(operator, 2)
    first, second = take()
    ledger = Ledger()
    with caplog.at_level(logging.DEBUG, "batches.supervision.ledger"):
        ledger.add(first, Verdict(first.lease, AttemptOutcome.SUCCEEDED, result={}, seconds=1.5))
        ledger.commit()
        ledger.add(first, Verdict(first.lease, AttemptOutcome.ERROR))
        ledger.add(second, Verdict(second.lease, AttemptOutcome.REJECTED, result={}))
        ledger.commit()
    about = [
        (record.levelname, record.message.split()[0], record.batch, record.task, record.attempt)
        for record in caplog.records
    ]
    assert about == [
        ("DEBUG", "succeeded", batch.pk, first.lease.task_id, 1),
        ("WARNING", "the", batch.pk, first.lease.task_id, 1),
        ("DEBUG", "rejected", batch.pk, second.lease.task_id, 1),
    ]

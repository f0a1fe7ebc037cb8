"""What reaches many tasks goes in chunks, and comes to the same as in one go."""

from __future__ import annotations

import pytest

from batches import operations
from batches.models import Batch, Queue
from batches.queue import retrying, sql, wishes
from batches.states import AttemptOutcome
from batches.submission import Item
from tests.queueing import end, take

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch) -> None:
    monkeypatch.setattr(sql, "CHUNK", 2)


def fail_all() -> None:
    for claimed in take():
        end(claimed, AttemptOutcome.REJECTED)


def states(batch: Batch) -> dict[str, str]:
    return dict(batch.tasks.values_list("custom_id", "state"))


def test_a_retry_reaches_every_task(operator, make_batch):
    batch = make_batch(operator, 5)
    fail_all()
    assert operations.retry_batch(batch) == 5
    assert set(states(batch).values()) == {"queued"}
    batch.refresh_from_db()
    assert (batch.state, batch.summary) == ("open", None)


def test_a_retry_of_a_cancelled_batch_reaches_every_cancelled_task(operator, make_batch):
    batch = make_batch(operator, 5)
    operations.cancel_batch(batch)
    assert operations.retry_batch(batch) == 5
    assert len(take()) == 5


def test_what_fails_again_during_a_retry_is_not_retried_again(operator, make_batch, monkeypatch):
    batch = make_batch(operator, 4)
    fail_all()
    some = retrying._retry_some

    def then_fails(*args):
        # The last of all fails for a second time, later than the retry began.
        chunk = some(*args)
        last = batch.tasks.order_by("pk").last()
        batch.tasks.filter(pk=last.pk).update(finished_at="2999-01-01T00:00:00Z")
        return chunk

    monkeypatch.setattr(retrying, "_retry_some", then_fails)
    assert operations.retry_batch(batch) == 3
    assert states(batch)["3"] == "failed"


def test_a_cancel_during_a_retry_ends_it(operator, make_batch, monkeypatch):
    batch = make_batch(operator, 5)
    fail_all()
    some = retrying._retry_some

    def then_cancelled(batch_id, wish, before):
        chunk = some(batch_id, wish, before)
        if not before:
            wishes.cancel_batch(batch_id)
        return chunk

    monkeypatch.setattr(retrying, "_retry_some", then_cancelled)
    assert operations.retry_batch(batch) == 2
    assert sorted(states(batch).values()) == ["cancelled"] * 2 + ["failed"] * 3


def test_a_victim_retried_before_its_cause_waits_for_it(operator, make_batch):
    # Submitted against their order, so that the cause comes in the last chunk.
    links = [Item({}, id=f"v{n}", depends_on=("cause",)) for n in range(4)]
    batch = make_batch(operator, items=[*links, Item({}, id="cause")])
    fail_all()
    operations.retry_batch(batch)
    assert set(states(batch).values()) == {"queued"}


def test_a_new_priority_reaches_every_task(operator, make_batch):
    batch = make_batch(operator, 5)
    operations.change_queue(Queue.objects.get(pk="default"), priority=8)
    assert set(batch.tasks.values_list("priority", flat=True)) == {8}
    operations.change_batch(batch, priority=2)
    assert set(batch.tasks.values_list("priority", flat=True)) == {2}


def test_a_batch_after_one_that_failed_fails_and_is_revived_as_a_whole(operator, make_batch):
    first = make_batch(operator, 1)
    second = make_batch(operator, 5, after=(first.pk,))
    fail_all()
    assert set(states(second).values()) == {"failed"}
    operations.retry_batch(first)
    assert set(states(second).values()) == {"queued"}
    second.refresh_from_db()
    assert (second.state, second.unmet_after) == ("open", 1)

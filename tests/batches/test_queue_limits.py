"""What a claim costs where a limit is reached, and what it locks where batches start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from batches import operations
from batches.models import Batch, Queue
from batches.submission import Item
from tests.queueing import end, names, take

pytestmark = pytest.mark.django_db


@contextmanager
def statements(part: str) -> Iterator[Callable[[], int]]:
    """Counts the statements that contain the part."""
    with CaptureQueriesContext(connection) as queries:
        yield lambda: sum(part in query["sql"] for query in queries)


@pytest.mark.parametrize("limit", ["concurrency_limit", "rate_limit"])
def test_a_reached_limit_of_a_queue_is_found_once_however_many_batches_wait(
    operator, make_batch, limit
):
    for _ in range(20):
        make_batch(operator, 1)
    operations.change_queue(Queue.objects.get(pk="default"), **{limit: 1})
    assert len(take()) == 1
    with statements("SELECT concurrency_limit") as looks, statements("SAVEPOINT") as begun:
        assert take() == []
    assert (looks(), begun()) == (1, 0)


def test_a_full_queue_does_not_hold_up_the_others(operator, make_batch):
    operations.change_queue(Queue.objects.get(pk="default"), concurrency_limit=1)
    make_batch(operator, 2)
    make_batch(operator, 2)
    make_batch(operator, items=[Item({}, id="other")], queue="low_priority")
    assert names(take())[1:] == ["other"]


def test_a_full_batch_does_not_hold_up_the_others_of_a_limited_queue(operator, make_batch):
    operations.change_queue(Queue.objects.get(pk="default"), concurrency_limit=3)
    make_batch(operator, 5, parallel=1)
    make_batch(operator, 5)
    first = take(1)
    with statements("SAVEPOINT") as begun:
        assert len(take()) == 2
    assert begun() == 4  # of the second batch alone: its limit and its start, begun and ended
    end(first[0])
    assert len(take()) == 1


def test_a_claim_of_one_task_starts_one_batch(operator, make_batch):
    for _ in range(5):
        make_batch(operator, 1)
    with statements("SET started_at") as starts:
        assert len(take(1)) == 1
    assert starts() == 1
    assert Batch.objects.filter(started_at__isnull=False).count() == 1


def test_a_claim_looks_past_new_batches_whose_needs_are_away(operator, make_batch):
    for _ in range(10):
        make_batch(
            operator,
            items=[Item({"how": "need", "needs": "file:/x"})],
            kind="misbehave",
            priority=9,
        )
    make_batch(operator, items=[Item({"how": "reject"}, id="other")], kind="misbehave")
    assert names(take(1, away=frozenset({"file:/x"}))) == ["other"]

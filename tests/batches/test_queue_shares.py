"""A batch whose variants are in several queues: each task follows the rules of its own."""

from __future__ import annotations

from importlib import import_module
from unittest.mock import patch

import pytest
from django.db import connection
from django.db.models import ProtectedError

from batches import operations
from batches.models import Batch, Queue, Share, Task
from batches.queue import backlog, dispatch, sealing
from batches.queue.claim_by_id import claim_by_id
from batches.queue.walk import Claimant
from batches.queue.windows import Reader
from batches.states import BackendName
from batches.submission import Item, Variant
from tests.queueing import end, take

pytestmark = pytest.mark.django_db

TWO = (Variant("here"), Variant("there", queue="low_priority"))


@pytest.fixture
def divided(operator, make_batch):
    """Makes a batch of which each item is run in the queue ``default`` and in ``low_priority``."""

    def made(number: int = 2, **options):
        items = [Item({}, id=str(n)) for n in range(number)]
        return make_batch(operator, items=items, variants=TWO, **options)

    return made


def low(**changes) -> None:
    operations.change_queue(Queue.objects.get(pk="low_priority"), **changes)


def variants(claimed) -> list[str]:
    found = dict(Task.objects.values_list("pk", "variant"))
    return [found[one.lease.task_id] for one in claimed]


def test_each_variant_has_the_priority_of_its_queue_and_goes_when_that_says(divided):
    batch = divided()
    rows = batch.tasks.order_by("variant", "position").values_list("variant", "priority")
    assert list(rows) == [("here", 5), ("here", 5), ("there", 1), ("there", 1)]
    assert variants(take()) == ["here", "here", "there", "there"]


def test_the_priority_of_the_batch_or_of_an_item_wins(operator, make_batch):
    items = [Item({}), Item({}, priority=7)]
    batch = make_batch(operator, items=items, variants=TWO, priority=4)
    rows = batch.tasks.order_by("variant", "position").values_list("priority", flat=True)
    assert list(rows) == [4, 7, 4, 7]


def test_a_paused_queue_holds_back_its_variant_alone(divided):
    divided()
    low(paused=True)
    assert variants(take()) == ["here", "here"]
    low(paused=False)
    assert variants(take()) == ["there", "there"]


def test_a_worker_takes_the_variants_of_its_queues(divided):
    divided()
    assert variants(take(queues=frozenset({"low_priority"}))) == ["there", "there"]
    assert variants(take(queues=frozenset({"low_priority"}))) == []


@pytest.mark.parametrize("limit", ["concurrency_limit", "rate_limit"])
def test_a_limit_counts_the_tasks_of_its_queue_alone(divided, limit):
    low(**{limit: 3})
    divided()
    divided()
    assert variants(take()).count("there") == 3
    assert variants(take()) == []


def test_a_limit_of_the_batch_counts_all_of_them(divided):
    divided(parallel=3)
    first = take()
    assert variants(first) == ["here", "here", "there"]
    end(first[0])
    assert variants(take()) == ["there"]


def test_a_lane_that_may_not_run_is_never_stepped_over_by_a_claim_of_its_neighbours(
    operator, make_batch
):
    """The three lanes lie side by side, and the one in between gets its tasks between the look at
    the lanes and the claim."""
    three = (Variant("a"), Variant("b", queue="tests"), Variant("c", queue="validation"))
    make_batch(operator, items=[Item({})], variants=three, priority=5)
    Task.objects.filter(variant="b").update(waiting_for="a model")
    looked = Claimant.opens

    def opens(self, workspace):
        Task.objects.filter(variant="b").update(waiting_for="")
        return looked(self, workspace)

    with patch.object(Claimant, "opens", opens):
        assert variants(take(queues=frozenset({"default", "validation"}))) == ["a", "c"]


def test_new_priorities_reach_the_variants_that_inherit_them(divided):
    batch = divided()

    def priorities() -> list[int]:
        return [task.priority for task in batch.tasks.filter(position=1).order_by("variant")]

    low(priority=8)
    assert priorities() == [5, 8]
    assert variants(take(1)) == ["there"]
    operations.change_batch(batch, priority=3)
    assert priorities() == [3, 3]
    operations.change_batch(batch, priority=None)
    assert priorities() == [5, 8]
    operations.change_task(batch.tasks.get(variant="here", position=1), priority=10)
    assert variants(take(1)) == ["here"]
    sealing.seal(batch.pk)


def test_a_message_is_sent_to_the_queue_of_the_variant_and_claims_by_its_rules(divided, settings):
    settings.CELERY_BROKER_URL = "redis://nowhere"
    live = [Reader(frozenset(), 2, idle=True, workspaces=frozenset())]
    with patch("batches.dispatch.nudge", return_value=True):
        batch = divided(1, backend=BackendName.CELERY)
    told = {message.queue: message.task_id for message in dispatch.tell(frozenset(), live)}
    assert told.keys() == {"default"}, "nothing less urgent while something more urgent is out"
    there = batch.tasks.get(variant="there").pk
    claimant = Claimant("w", BackendName.CELERY)
    low(paused=True)
    assert claim_by_id(claimant, there) is None
    assert claim_by_id(claimant, told["default"]) is not None
    assert dispatch.tell(frozenset(), live) == []
    low(paused=False)
    [message] = dispatch.tell(frozenset(), live)
    assert (message.queue, message.task_id) == ("low_priority", there)
    low(concurrency_limit=1)
    assert claim_by_id(claimant, there) is not None


def test_what_waits_is_counted_where_it_waits(divided, client_of, operator):
    batch = divided()
    assert backlog.waiting().keys() == {"default", "low_priority"}
    low(paused=True)
    assert backlog.waiting().keys() == {"default"}
    end(take(1)[0])
    client = client_of(operator)
    depth = {
        queue["name"]: queue["depth"]
        for queue in client.get("/batch/queues").json()["results"]
        if queue["depth"]
    }
    assert depth == {"default": 1, "low_priority": 2}
    totals = client.get("/batch/stats").json()["totals"]
    assert totals["queue"]["default"] == {"queued": 1, "succeeded": 1}
    assert totals["queue"]["low_priority"] == {"queued": 2}
    listed = client.get("/batch/tasks?queue=low_priority").json()["results"]
    assert {(task["queue"], task["variant"]) for task in listed} == {("low_priority", "there")}
    of_batch = client.get(f"/batch/{batch.pk}/tasks").json()["results"]
    assert [task["queue"] for task in of_batch] == ["default", "low_priority"] * 2
    options = {
        one["variant"]: one["options"]
        for one in client.get(f"/batch/{batch.pk}/comparison").json()["variants"]
    }
    assert options == {"here": {}, "there": {"queue": "low_priority"}}


def test_batches_of_one_microsecond_share_no_number(divided, monkeypatch):
    monkeypatch.setattr("batches.models.batch.new_number", lambda: 7)
    field = Batch._meta.get_field("number")
    monkeypatch.setattr(field, "_get_default", lambda: 7)
    first, second = divided(1), divided(1)
    numbers = list(Share.objects.order_by("number").values_list("number", "batch"))
    assert numbers == [(7, first.pk), (8, first.pk), (9, second.pk), (10, second.pk)]
    lanes = set(Task.objects.values_list("lane", flat=True))
    assert len(lanes) == 4


def test_a_queue_of_a_variant_cannot_be_deleted(divided):
    divided()
    with pytest.raises(ProtectedError):
        Queue.objects.get(pk="low_priority").delete()


def test_what_was_submitted_before_there_were_shares_goes_on(make_batch, operator):
    batch = make_batch(operator, 2)
    Share.objects.all().delete()
    migration = import_module("batches.migrations.0009_share_of_each_batch")
    with connection.cursor() as cursor:
        cursor.execute(migration.FILL)
    share = Share.objects.get(batch=batch)
    assert (share.number, share.queue_id, share.whole) == (batch.number, "default", True)
    assert len(take()) == 2

"""What a submission must be, and that a refused one leaves nothing behind."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import patch
from uuid import uuid4

import pytest
from django.utils import timezone

from batches import intake, operations, vetting
from batches.alike import Alike
from batches.models import Batch, Dependency, Task
from batches.submission import InvalidSubmission, Item, Submission

pytestmark = pytest.mark.django_db


def refused(owner, items=None, kind="noop", **fields) -> dict[str, str]:
    """Field → message of a submission that must be refused, with nothing stored."""
    items = [Item({})] if items is None else items
    with pytest.raises(InvalidSubmission) as caught:
        operations.submit(owner, Submission(kind=kind, items=items, **fields))
    assert not Batch.objects.exists()
    assert not Task.objects.exists()
    return {error.field: error.message for error in caught.value.errors}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kind": "nonsense"}, "kind"),
        ({"queue": "nonsense"}, "queue"),
        ({"backend": "celery"}, "backend"),
        ({"priority": 11}, "priority"),
        ({"priority": -1}, "priority"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": 3301}, "timeout"),
        ({"parallel": 0}, "parallel"),
        ({"on_failure": "explode"}, "on_failure"),
        ({"name": "x" * 201}, "name"),
        ({"workspace": "nowhere"}, "workspace"),
        ({"after": (uuid4(),)}, "after[0]"),
        ({"deadline": timezone.now() - timedelta(days=1)}, "deadline"),
        ({"items": []}, "items"),
        ({"items": [Item({}, id="")]}, "items[0].id"),
        ({"items": [Item({}, id="x" * 129)]}, "items[0].id"),
        ({"items": [Item({}, id="a"), Item({}, id="a")]}, "items[1].id"),
        ({"items": [Item({}), Item({}, priority=99)]}, "items[1].priority"),
        ({"items": [Item({}, timeout=10**9)]}, "items[0].timeout"),
        ({"items": [Item({}, depends_on=("x",))]}, "items[0].depends_on[0]"),
        ({"items": [Item({}, id="a", depends_on=("a",))]}, "items[0].depends_on"),
    ],
)
def test_what_is_wrong_is_named(operator, fields, named):
    assert named in refused(operator, **fields)


def test_the_items_own_field_is_named_with_its_place(operator):
    items = [Item({"seconds": 1}), Item({"seconds": "soon"}), Item({})]
    errors = refused(operator, items, kind="sleep")
    assert errors == {
        "items[1].seconds": "Must be a number of seconds, 0 or more.",
        "items[2].seconds": "Must be a number of seconds, 0 or more.",
    }


def test_a_fault_in_a_common_field_is_named_once_at_the_field(operator):
    errors = refused(operator, [Item({})], kind="sleep", options={"seconds": "soon"})
    assert list(errors) == ["seconds"]


def test_a_circle_of_dependencies_is_shown(operator):
    items = [
        Item({}, id="a", depends_on=("c",)),
        Item({}, id="b", depends_on=("a",)),
        Item({}, id="c", depends_on=("b",)),
    ]
    [(field, message)] = refused(operator, items).items()
    assert field.endswith(".depends_on")
    assert all(name in message for name in "abc")


def test_a_long_chain_is_no_circle(operator, make_batch):
    items = [Item({}, id="0")] + [
        Item({}, id=str(n), depends_on=(str(n - 1),)) for n in range(1, 3000)
    ]
    batch = make_batch(operator, items=items)
    assert Dependency.objects.filter(task__batch=batch).count() == 2999
    assert batch.tasks.filter(unmet_dependencies=0).count() == 1


def test_the_search_for_errors_ends_when_nobody_would_read_more(operator):
    assert len(refused(operator, [Item({}) for _ in range(5000)], kind="sleep")) == 100


def test_a_submission_that_breaks_in_the_middle_leaves_nothing(operator):
    real, calls = Alike.insert, []

    def breaks_the_second_time(self, rows):
        rows = list(rows)
        calls.append(len(rows))
        if len(calls) == 2:
            raise RuntimeError("the disk is full")
        real(self, rows)

    items = [Item({}) for _ in range(intake.CHUNK + 1)]
    with patch.object(Alike, "insert", breaks_the_second_time), pytest.raises(RuntimeError):
        operations.submit(operator, Submission(kind="noop", items=items))
    assert calls == [intake.CHUNK, 1]
    assert not Batch.objects.exists()
    assert not Task.objects.exists()


def test_rows_keep_what_was_asked(operator, red, make_batch):
    later = timezone.now() + timedelta(hours=1)
    batch = make_batch(
        operator,
        items=[Item({"n": 1}, id="x", priority=9, timeout=7), Item({"n": 2})],
        options={"common": True},
        name="nightly",
        workspace="red",
        priority=4,
        parallel=2,
        max_attempts=5,
        timeout=60,
        run_at=later,
        labels=("a", "b"),
        on_failure="stop",
    )
    assert (batch.name, batch.owner, batch.workspace, batch.total) == ("nightly", operator, red, 2)
    assert (batch.labels, batch.options) == (["a", "b"], {"common": True})
    first, second = batch.tasks.order_by("position")
    assert (first.custom_id, first.priority, first.timeout) == ("x", 9, 7)
    assert first.payload == {"common": True, "n": 1}
    assert (second.custom_id, second.priority, second.timeout) == ("1", 4, 60)
    assert second.run_after == later
    assert second.max_attempts == 5


def test_an_item_may_override_a_common_field(operator, make_batch):
    batch = make_batch(operator, items=[Item({"seconds": 2})], kind="sleep", options={"seconds": 1})
    assert batch.tasks.get().payload == {"seconds": 2}


def test_two_submissions_in_one_microsecond_are_both_stored(operator, make_batch):
    with patch("batches.models.batch.time.time_ns", return_value=1_700_000_000_000_000_000):
        first, second = make_batch(operator, 1), make_batch(operator, 1)
    assert second.number == first.number + 1


def test_a_workspace_of_others_cannot_be_used(stranger, red):
    assert "workspace" in refused(stranger, workspace="red")


def test_a_batch_has_so_many_links_at_most(operator, make_batch, monkeypatch):
    monkeypatch.setattr(vetting, "MOST_LINKS", 3)
    both = [Item({}, depends_on=("0", "1")) for _ in range(3)]
    named = refused(operator, [Item({}), Item({}), *both])
    assert named == {"items[3].depends_on": "With this one the batch has more than 3 links."}
    make_batch(operator, items=[Item({}), Item({}), both[0], Item({}, depends_on=("0",))])


def test_a_batch_of_too_many_items_is_refused_before_all_are_looked_at(operator, monkeypatch):
    monkeypatch.setattr(vetting, "MOST_ITEMS", 10)
    seen = []

    def endless():
        while True:
            seen.append(1)
            yield Item({})

    assert "10 items at most" in refused(operator, endless())["items"]
    assert len(seen) == 11

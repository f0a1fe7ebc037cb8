"""Variants side by side: what is counted for whom, and how far it can be trusted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from batches.comparison.figures import columns, figures
from batches.comparison.interval import median_and_p90, wilson
from batches.models import Batch, Decision, Task
from batches.states import AttemptOutcome, Failure
from batches.submission import Item, Variant

pytestmark = pytest.mark.django_db

SUCCEEDED, REJECTED, LIMIT = (
    AttemptOutcome.SUCCEEDED,
    AttemptOutcome.REJECTED,
    AttemptOutcome.LIMIT,
)
TWO = (Variant("x", {"n": 1}), Variant("y"))


@pytest.fixture
def client(client_of, operator):
    return client_of(operator)


@pytest.fixture
def batch(operator, make_batch, finish) -> Batch:
    """Items a to d in two variants; of x all but d passed, of y only a."""
    made = make_batch(operator, items=[Item({}, id=name) for name in "abcd"], variants=TWO)
    leases = finish(*[SUCCEEDED] * 8)
    passed = {(name, "x") for name in "abc"} | {("a", "y")}
    for task in Task.objects.filter(pk__in=[lease.task_id for lease in leases]):
        if (task.custom_id, task.variant) not in passed:
            Task.objects.filter(pk=task.pk).update(state="failed", failure="rejected")
    return made


def set_seconds(batch: Batch, variant: str, *seconds: float) -> None:
    """How long the tasks of a variant ran, by position."""
    for position, length in enumerate(seconds):
        batch.tasks.filter(variant=variant, position=position).update(
            finished_at=F("started_at") + timedelta(seconds=length)
        )


# -- the interval ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passed", "judged", "low", "high"),
    [
        # By hand: (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z = 1.959964.
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (500, 1000, 0.4691, 0.5309),
    ],
)
def test_the_interval_of_a_share(passed, judged, low, high):
    assert wilson(passed, judged) == pytest.approx((low, high), abs=5e-5)


def test_nothing_is_said_of_nothing():
    assert wilson(0, 0) is None
    assert median_and_p90([]) is None
    assert median_and_p90([4.0]) == (4.0, 4.0)


# -- the figures ----------------------------------------------------------------------------------


def test_each_variant_is_counted_for_itself(batch):
    x, y = figures(columns([batch]))
    assert (x.column.variant, x.passed, x.judged, x.pass_rate) == ("x", 3, 4, 0.75)
    assert (y.column.variant, y.passed, y.judged, y.pass_rate) == ("y", 1, 4, 0.25)
    assert (x.options, y.options) == ({"n": 1}, {})
    assert x.interval == wilson(3, 4)


def test_what_says_nothing_of_a_variant_is_not_judged(batch):
    failed = batch.tasks.filter(variant="y", state="failed").order_by("position")
    for task, failure in zip(failed, ("error", "lost", "dependency"), strict=True):
        Task.objects.filter(pk=task.pk).update(failure=failure)
    _, y = figures(columns([batch]))
    assert (y.passed, y.judged, y.total) == (1, 1, 4)
    assert y.failures == {"error": 1, "lost": 1, "dependency": 1}


def test_what_a_deadline_kept_from_running_is_not_judged(batch):
    failed = batch.tasks.filter(variant="y", state="failed")
    failed.update(failure=Failure.TIMEOUT, started_at=None)
    _, y = figures(columns([batch]))
    assert y.judged == 1


def test_times_are_of_what_was_judged(batch):
    set_seconds(batch, "x", 1, 2, 3, 100)
    batch.tasks.filter(variant="x", position=3).update(failure="lost")
    x, _ = figures(columns([batch]))
    assert x.as_json()["seconds"] == {"median": 2.0, "p90": 2.8}


def usage(requests, tokens_in, tokens_out):
    return {"requests": requests, "input_tokens": tokens_in, "output_tokens": tokens_out}


def test_what_an_agent_tells_of_its_work_is_added_up(batch):
    Batch.objects.filter(pk=batch.pk).update(kind="agent")
    for task in batch.tasks.filter(variant="x"):
        Task.objects.filter(pk=task.pk).update(
            result={
                "loops": task.position + 1,
                "usage": {"coder": usage(2, 100, 10), "reviewer": usage(1, 50, 5)},
                "applied": ["applied", "already", "pending", "conflict"][task.position],
            }
        )
    batch.tasks.filter(variant="y").update(result={"usage": {"coder": usage(1, 1, 1)}})
    batch.refresh_from_db()
    x, y = (each.as_json() for each in figures(columns([batch])))
    assert x["loops"] == {"median": 2.5, "p90": 3.7}
    assert x["turns"] == {"median": 3, "p90": 3}
    assert x["tokens"] == {"input": 600, "output": 60}
    assert (x["applied"], y["applied"]) == (2, 0)
    assert (y["loops"], y["tokens"]) == (None, {"input": 4, "output": 4})


def test_a_patch_that_a_person_applied_counts_once_it_is_in(batch, operator, make_batch, finish):
    task = batch.tasks.get(variant="y", position=0)
    applying = make_batch(operator, 1).tasks.get()
    Decision.objects.create(
        task=task, attempt=task.attempt, verb="apply", by=operator, applying=applying
    )
    assert [each.applied for each in figures(columns([batch]))] == [0, 0]
    finish(SUCCEEDED)
    assert [each.applied for each in figures(columns([batch]))] == [0, 1]


def test_results_are_read_in_pages_but_counted_whole(batch, monkeypatch):
    monkeypatch.setattr("batches.comparison.figures.PAGE", 3)
    assert [each.total for each in figures(columns([batch]))] == [4, 4]


# -- over the API ---------------------------------------------------------------------------------


def test_the_comparison_is_answered(client, batch):
    told = client.get(f"/batch/{batch.pk}/comparison").json()["variants"]
    assert [each["variant"] for each in told] == ["x", "y"]
    assert told[0] | {"seconds": None} == {
        "batch": str(batch.pk),
        "variant": "x",
        "options": {"n": 1},
        "total": 4,
        "states": {"queued": 0, "running": 0, "succeeded": 3, "failed": 1, "cancelled": 0},
        "failures": {"rejected": 1},
        "judged": 4,
        "passed": 3,
        "pass_rate": 0.75,
        "interval": [0.3006, 0.9544],
        "seconds": None,
        "loops": None,
        "turns": None,
        "tokens": {"input": 0, "output": 0},
        "applied": 0,
    }


def test_each_item_says_which_variants_passed_it(client, batch):
    address, seen = f"/batch/{batch.pk}/comparison/items?page_size=3", {}
    while address:
        page = client.get(address).json()
        for item in page["results"]:
            seen[item["custom_id"]] = [task["passed"] for task in item["tasks"]]
        address = page["next"]
    assert seen == {
        "a": [True, True],
        "b": [True, False],
        "c": [True, False],
        "d": [False, False],
    }


def test_what_a_variant_has_no_task_for_is_null(client, batch, make_batch, operator):
    more = [Item({}, id=name) for name in "bde"]
    again = make_batch(operator, items=more, variants=TWO, resume=batch.pk)
    page = client.get(f"/batch/{again.pk}/comparison/items").json()["results"]
    there = {item["custom_id"]: [task is not None for task in item["tasks"]] for item in page}
    assert there == {"b": [False, True], "d": [True, True], "e": [True, True]}


def test_two_batches_are_compared_by_the_ids_of_their_items(
    client, batch, make_batch, operator, finish
):
    other = make_batch(operator, items=[Item({}, id=name) for name in "ba"], queue="low_priority")
    finish(SUCCEEDED, REJECTED)
    told = client.get(f"/batch/{batch.pk}/comparison?other={other.pk}").json()["variants"]
    assert [(each["batch"], each["variant"], each["passed"]) for each in told] == [
        (str(batch.pk), "x", 3), (str(batch.pk), "y", 1), (str(other.pk), "", 1),
    ]  # fmt: skip
    page = client.get(f"/batch/{batch.pk}/comparison/items?other={other.pk}").json()["results"]
    of_other = {item["custom_id"]: item["tasks"][2] for item in page}
    assert {name: task and task["passed"] for name, task in of_other.items()} == {
        "a": False, "b": True, "c": None, "d": None,
    }  # fmt: skip


def test_only_a_batch_of_its_kind_that_one_may_see_is_compared(
    client, batch, make_batch, operator, stranger
):
    of_stranger = make_batch(stranger, 1)
    of_another_kind = make_batch(operator, kind="append", tasks=1)
    for other in (of_stranger.pk, of_another_kind.pk, batch.pk, "nonsense"):
        for place in ("comparison", "comparison/items"):
            answer = client.get(f"/batch/{batch.pk}/{place}?other={other}")
            assert answer.status_code == 400, answer.content
            assert [error["field"] for error in answer.json()["errors"]] == ["other"]


def test_nobody_compares_what_they_may_not_see(client_of, batch, stranger, nobody):
    for place in ("comparison", "comparison/items"):
        assert client_of(stranger).get(f"/batch/{batch.pk}/{place}").status_code == 404
        assert client_of(nobody).get(f"/batch/{batch.pk}/{place}").status_code == 403
        assert client_of(None).get(f"/batch/{batch.pk}/{place}").status_code == 401


def test_the_number_of_queries_does_not_grow_with_the_items(client, batch):
    address = f"/batch/{batch.pk}/comparison/items?page_size="
    client.get(f"{address}1")
    asked = []
    for size in (1, 4):
        with CaptureQueriesContext(connection) as queries:
            client.get(f"{address}{size}")
        asked.append(len(queries))
    assert asked[0] == asked[1] < 10

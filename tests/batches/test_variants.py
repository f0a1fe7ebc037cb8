"""The same items in several ways: a task for each item and variant, linked within its variant."""

from __future__ import annotations

import json
from unittest.mock import patch

import pytest

from batches import operations, vetting
from batches.models import Batch, Dependency, Task
from batches.states import AttemptOutcome
from batches.submission import InvalidSubmission, Item, Submission, Variant

pytestmark = pytest.mark.django_db

TWO = (Variant("quick", {"seconds": 1}), Variant("slow", {"seconds": 2}))
SUCCEEDED, REJECTED = AttemptOutcome.SUCCEEDED, AttemptOutcome.REJECTED


def errors_of(response):
    assert response.status_code == 400, response.content
    return {error["field"]: error["message"] for error in response.json()["errors"]}


@pytest.fixture
def client(client_of, operator):
    return client_of(operator)


def test_each_item_becomes_a_task_of_each_variant(operator, make_batch):
    batch = make_batch(operator, kind="sleep", items=[Item({}, id="a"), Item({})], variants=TWO)
    rows = batch.tasks.values_list("position", "variant", "custom_id", "payload")
    assert sorted(rows.order_by("position", "variant"), key=lambda row: row[:2]) == [
        (0, "quick", "a", {"seconds": 1}),
        (0, "slow", "a", {"seconds": 2}),
        (1, "quick", "1", {"seconds": 1}),
        (1, "slow", "1", {"seconds": 2}),
    ]
    assert batch.total == 4
    assert batch.variants == [
        {"name": "quick", "seconds": 1},
        {"name": "slow", "seconds": 2},
    ]


def test_a_variants_option_wins_over_the_batchs_and_an_items_own_over_both(operator, make_batch):
    batch = make_batch(
        operator,
        kind="sleep",
        items=[Item({"seconds": 9}), Item({})],
        options={"seconds": 5},
        variants=(Variant("as usual"), Variant("other", {"seconds": 1})),
    )
    seconds = batch.tasks.order_by("position", "variant").values_list("payload__seconds", flat=True)
    assert list(seconds) == [9, 9, 5, 1]


def test_what_depends_on_another_item_waits_for_it_within_its_variant(operator, make_batch, finish):
    make_batch(
        operator,
        items=[Item({}, id="a"), Item({}, id="b", depends_on=("a",))],
        variants=(Variant("x"), Variant("y")),
    )
    linked = Dependency.objects.values_list("task__variant", "predecessor__variant")
    assert sorted(linked) == [("x", "x"), ("y", "y")]
    first, second = (lease.task_id for lease in finish(SUCCEEDED, REJECTED))
    good, bad = Task.objects.get(pk=first).variant, Task.objects.get(pk=second).variant
    ends = {task.variant: task for task in Task.objects.filter(custom_id="b")}
    assert (ends[good].state, ends[good].unmet_dependencies) == ("queued", 0)
    assert (ends[bad].state, ends[bad].failure) == ("failed", "dependency")


@pytest.mark.parametrize(
    ("variants", "field"),
    [
        ((Variant(""),), "variants[0].name"),
        ((Variant("x" * 65),), "variants[0].name"),
        ((Variant("a"), Variant("b"), Variant("a")), "variants[2].name"),
        (tuple(Variant(str(n)) for n in range(9)), "variants"),
        ((Variant("a", {"seconds": 1}), Variant("b", {"seconds": "no"})), "variants[1].seconds"),
    ],
)
def test_what_is_wrong_with_a_variant_is_named(operator, variants, field):
    options = {"seconds": 1}
    wanted = Submission("sleep", [Item({}), Item({})], options=options, variants=variants)
    with pytest.raises(InvalidSubmission) as refused:
        operations.submit(operator, wanted)
    assert [error.field for error in refused.value.errors] == [field]
    assert not Batch.objects.exists()


def test_the_most_items_are_counted_with_their_variants(operator, make_batch):
    two = (Variant("x"), Variant("y"))
    with patch.object(vetting, "MOST_ITEMS", 5):
        assert make_batch(operator, 2, variants=two).total == 4
        with pytest.raises(InvalidSubmission, match="Must hold 2 items at most with 2 variants"):
            make_batch(operator, 3, variants=two)


def test_links_are_counted_with_their_variants(operator, make_batch):
    items = [Item({}, id="a"), Item({}, depends_on=("a",)), Item({}, depends_on=("a",))]
    with patch.object(vetting, "MOST_LINKS", 3):
        assert make_batch(operator, items=items).total == 3
        with pytest.raises(InvalidSubmission, match="more than 3 links"):
            make_batch(operator, items=items, variants=(Variant("x"), Variant("y")))


# -- over the API ---------------------------------------------------------------------------------


def test_variants_are_submitted_and_shown(client):
    body = {
        "items": [{"id": "a"}, {"id": "b"}],
        "variants": [{"name": "one", "seconds": 0}, {"name": "two", "seconds": 0.5}],
    }
    batch = client.post("/batch/sleep", body).json()
    assert (batch["total"], batch["variants"]) == (4, ["one", "two"])
    tasks = client.get(f"/batch/{batch['id']}/tasks").json()["results"]
    assert [(task["custom_id"], task["variant"]) for task in tasks] == [
        ("a", "one"), ("a", "two"), ("b", "one"), ("b", "two"),
    ]  # fmt: skip
    only = client.get(f"/batch/{batch['id']}/tasks?variant=two").json()["results"]
    assert {task["payload"]["seconds"] for task in only} == {0.5}
    text = b"".join(client.get(f"/batch/{batch['id']}/results").streaming_content)
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["custom_id"], line["variant"]) for line in lines] == [
        (task["custom_id"], task["variant"]) for task in tasks
    ]


def test_pages_of_tasks_divide_the_variants_of_an_item(client):
    body = {
        "items": [{}, {}, {}],
        "variants": [{"name": name} for name in ("x", "y", "z")],
    }
    batch = client.post("/batch/noop", body).json()["id"]
    address, seen = f"/batch/{batch}/tasks?page_size=2", []
    while address:
        page = client.get(address).json()
        seen += [(task["position"], task["variant"]) for task in page["results"]]
        address = page["next"]
    assert seen == [(n, v) for n in range(3) for v in "xyz"]


@pytest.mark.parametrize(
    ("variants", "field", "said"),
    [
        ({}, "variants", "Must be an array, not an object."),
        ([], "variants", "Must hold 1 to 8 variants."),
        ([{"name": "x"}] * 9, "variants", "Must hold 1 to 8 variants."),
        (["x"], "variants[0]", "Must be an object, not a string."),
        ([{"checks": ["lint"]}], "variants[0].name", "This field is required."),
        ([{"name": 1}], "variants[0].name", "Must be a string, not a number."),
        ([{"name": ""}], "variants[0].name", "This field may not be blank."),
        ([{"name": "x"}, {"name": "x"}], "variants[1].name", "'x' is also the name of variant 0."),
        ([{"name": "x", "checks": "lint"}], "variants[0].checks", "Must be an array"),
        ([{"name": "x", "checks": ["spelling"]}], "variants[0].checks[0]", "must be one of"),
        ([{"name": "x"}, {"name": "y", "queue": "slow"}], "variants[1].queue", "'slow' is not one"),
        ([{"name": "x", "queue": 1}], "variants[0].queue", "Must be a string, not a number."),
        (
            [{"name": "x", "priority": 1}],
            "variants[0].priority",
            "Unknown field: there are check_command, checks, name, queue.",
        ),
    ],
)
def test_a_wrong_variant_is_named_over_the_api(client, red, variants, field, said):
    body = {"workspace": "red", "targets": [{"path": "a.py"}], "variants": variants}
    errors = errors_of(client.post("/batch/validation", body))
    assert said in errors[field]
    assert not Batch.objects.exists()


def test_an_option_of_the_kind_is_read_as_the_kind_reads_it(client, red):
    body = {
        "workspace": "red",
        "checks": ["syntax"],
        "targets": [{"path": "a.py"}],
        "variants": [{"name": "usual"}, {"name": "strict", "checks": ["lint", "types"]}],
    }
    batch = client.post("/batch/validation", body).json()["id"]
    asked = dict(Task.objects.filter(batch=batch).values_list("variant", "payload__checks"))
    assert asked == {"usual": ["syntax"], "strict": ["lint", "types"]}


def test_variants_may_stand_on_the_first_of_the_lines(client):
    lines = [{"variants": [{"name": "x"}, {"name": "y"}]}, {"id": "a"}, {"id": "b"}]
    data = "\n".join(map(json.dumps, lines))
    answer = client.post("/batch/noop", data, content_type="application/x-ndjson")
    assert answer.json()["total"] == 4

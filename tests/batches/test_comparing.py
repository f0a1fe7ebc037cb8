"""Keeping one variant's patch, the command that compares, and what an agent said."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from django.utils import timezone

from batches import operations
from batches.audit import Actor, Via
from batches.models import Artefact, Batch, Decision, LogLine, Task
from batches.submission import Item, Variant
from tests.batches.reviewed import with_patch

pytestmark = pytest.mark.django_db

THREE = (Variant("x"), Variant("y"), Variant("z"))


@pytest.fixture
def by(operator) -> Actor:
    return Actor(operator, Via.API)


@pytest.fixture
def batch(operator, make_batch, red) -> Any:
    """Items a and b in three variants; of a, x and y left a patch, and so did b's y."""
    items = [Item({}, id=name) for name in "ab"]
    made = make_batch(operator, items=items, workspace="red", variants=THREE)
    for name, variant in (("a", "x"), ("a", "y"), ("b", "y")):
        with_patch(made.tasks.get(custom_id=name, variant=variant))
    yield made
    for artefact in Artefact.objects.all():
        artefact.file.delete(save=False)


def of(batch: Batch, custom_id: str, variant: str) -> Task:
    found: Task = batch.tasks.get(custom_id=custom_id, variant=variant)
    return found


def run(*arguments: Any, **options: Any) -> str:
    out = StringIO()
    call_command(*map(str, arguments), stdout=out, **options)
    return out.getvalue()


# -- keeping a winner -----------------------------------------------------------------------------


def test_the_patch_of_one_variant_is_applied_and_the_others_discarded(batch, by):
    made = operations.keep_patch(of(batch, "a", "y"), by=by)
    assert made is not None
    assert made.tasks.get().payload["task"] == str(of(batch, "a", "y").pk)
    decided = Decision.objects.values_list("task__custom_id", "task__variant", "verb")
    assert sorted(decided) == [("a", "x", "discard"), ("a", "y", "apply")]


def test_what_is_in_the_workspace_already_is_kept_there(batch, by):
    winner = with_patch(of(batch, "a", "z"), applied="applied")
    assert operations.keep_patch(winner, by=by) is None
    decided = Decision.objects.values_list("task__variant", "verb")
    assert sorted(decided) == [("x", "discard"), ("y", "discard")]


def test_nothing_is_discarded_where_nothing_can_be_kept(batch, by):
    for task in (of(batch, "a", "z"), of(batch, "b", "x")):
        with pytest.raises(operations.Conflict):
            operations.keep_patch(task, by=by)
    assert not Decision.objects.exists()


def test_a_patch_is_kept_over_the_api_and_by_command(batch, client_of, operator):
    client = client_of(operator)
    answer = client.generic_json("POST", f"/batch/tasks/{of(batch, 'a', 'x').pk}/keep")
    assert (answer.status_code, answer.json()["decision"]["verb"]) == (202, "apply")
    said = run("keep", of(batch, "b", "y").pk, user="operator")
    assert said.startswith("The patch of b in variant y is kept: applied by batch ")
    refused = client.generic_json("POST", f"/batch/tasks/{of(batch, 'a', 'y').pk}/keep")
    assert refused.status_code == 409
    assert Decision.objects.count() == 3
    items = client.get(f"/batch/{batch.pk}/comparison/items").json()["results"]
    assert [task["decision"] for task in items[0]["tasks"]] == ["apply", "discard", None]


# -- the command ----------------------------------------------------------------------------------


def test_the_variants_are_shown_in_a_table(batch):
    text = run("compare", batch.pk, items=True)
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert [line[0] for line in lines] == ["Variant", "x", "y", "z", "Item", "a", "b"]
    assert lines[2][1:6] == ["2", "of", "2", "100%", "34%"]
    assert lines[3][1:5] == ["0", "of", "0", "-"]
    assert lines[5] == ["a", "passed", "passed", "-"]


def test_the_same_for_a_program(batch):
    told = json.loads(run("compare", str(batch.pk)[:13], json=True, items=True))
    assert [each["passed"] for each in told["variants"]] == [1, 2, 0]
    assert [task["passed"] for task in told["items"][1]["tasks"]] == [None, True, None]


def test_batches_of_two_kinds_are_not_compared(batch, operator, make_batch):
    other = make_batch(operator, 1, kind="append")
    with pytest.raises(CommandError, match="two kinds"):
        run("compare", batch.pk, other.pk)


# -- what an agent said ---------------------------------------------------------------------------


@pytest.fixture
def task(operator, make_batch) -> Task:
    made: Task = make_batch(operator, 1).tasks.get()
    for number, event in enumerate(("started", "turn", "tool", "applied", "check", "verdict"), 1):
        LogLine.objects.create(
            task=made, attempt=1 + number // 5, at=timezone.now(), event=event, fields={"n": number}
        )
    return made


def test_a_transcript_is_the_lines_of_the_conversation(client_of, operator, task):
    client, address = client_of(operator), f"/batch/tasks/{task.pk}/transcript"
    page = client.get(f"{address}?page_size=3").json()
    assert [line["event"] for line in page["results"]] == ["turn", "tool", "check"]
    after = page["results"][-1]["id"]
    rest = client.get(f"{address}?after={after}").json()["results"]
    assert [(line["event"], line["fields"]) for line in rest] == [("verdict", {"n": 6})]
    second = client.get(f"{address}?attempt=2").json()["results"]
    assert [line["event"] for line in second] == ["check", "verdict"]


def test_a_transcript_is_downloaded_as_the_attempt_left_it(client_of, operator, task):
    client, address = client_of(operator), f"/batch/tasks/{task.pk}/transcript?format=jsonl"
    assert client.get(address).status_code == 404
    for attempt in (1, 2):
        text = json.dumps({"n": 1, "event": "turn", "attempt": attempt}) + "\n"
        Artefact.objects.create(
            task=task, attempt=attempt, name="transcript.jsonl", media_type="application/x-ndjson",
            file=ContentFile(text.encode(), "transcript.jsonl"), size=len(text),
        )  # fmt: skip
    for asked, attempt in (("", 2), ("&attempt=1", 1)):
        answer = client.get(address + asked)
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert "attachment" in answer.headers["Content-Disposition"]
        assert json.loads(b"".join(answer.streaming_content))["attempt"] == attempt
    assert client.get(f"{address}&attempt=x").status_code == 400
    for artefact in Artefact.objects.all():
        artefact.file.delete(save=False)

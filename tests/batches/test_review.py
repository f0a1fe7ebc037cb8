"""Patches that wait for a person: each is applied or discarded once, whoever asks how."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command

from batches import operations, review
from batches.admin.markup import about
from batches.audit import Actor, Via
from batches.models import Artefact, Batch, Decision, Task
from batches.queue.removal import delete_batch
from batches.registry import InputMissing
from batches.review import waiting_for_review
from batches.submission import InvalidSubmission, Item
from tests.batches.reviewed import PATCH, with_patch
from tests.queueing import end, take

pytestmark = pytest.mark.django_db


@pytest.fixture
def by(operator) -> Actor:
    return Actor(operator, Via.API)


@pytest.fixture
def task(operator, make_batch, red) -> Any:
    """Left a patch that waits for review."""
    made = with_patch(make_batch(operator, 1, workspace="red", name="night").tasks.get())
    yield made
    for artefact in made.artefacts.all():
        artefact.file.delete(save=False)


def run_apply(red, outcome: str = "succeeded") -> Task:
    """Run the task that applies a patch to its end."""
    [claimed] = take(kinds={"apply"}, workspaces=frozenset({red.pk}))
    end(claimed, outcome)
    applying: Task = Task.objects.get(pk=claimed.lease.task_id)
    return applying


def test_a_patch_is_applied_by_a_task_of_its_own(task, by, red) -> None:
    batch = operations.apply_patch(task, by=by)
    assert (batch.kind, batch.workspace, batch.owner, batch.queue_id) == (
        "apply", red, by.user, "high_priority",
    )  # fmt: skip
    assert batch.name == "Apply 0 of night"
    applying = batch.tasks.get()
    assert applying.payload == {
        "task": str(task.pk),
        "patch": PATCH,
        "base_commit": "c0ffee",
        "start": [],
    }
    decision = Decision.objects.get()
    assert (decision.task, decision.verb, decision.by, decision.applying, decision.attempt) == (
        task, "apply", by.user, applying, 1,
    )  # fmt: skip
    assert LogEntry.objects.filter(object_id=task.pk).get().change_message == (
        "Let its patch be applied, over the API."
    )


def test_a_patch_is_applied_where_it_began_from(operator, make_batch, by, red) -> None:
    items = [Item({}, id="a"), Item({}, id="b", depends_on=("a",))]
    batch = make_batch(operator, items=items, workspace="red")
    first, second = batch.tasks.order_by("position")
    with_patch(first, text="first\n")
    applying = operations.apply_patch(with_patch(second), by=by).tasks.get()
    assert applying.payload["start"] == [
        {"task": str(first.pk), "base_commit": "c0ffee", "patch": "first\n"}
    ]
    assert applying.payload["patch"] == PATCH


@pytest.mark.parametrize("first", ["apply", "discard"])
@pytest.mark.parametrize("then", ["apply", "discard"])
def test_what_was_decided_stays_so(task, by, first, then) -> None:
    decide = {"apply": operations.apply_patch, "discard": operations.discard_patch}
    decide[first](task, by=by)
    batches = Batch.objects.count()
    with pytest.raises(operations.Conflict, match="decided already"):
        decide[then](Task.objects.get(pk=task.pk), by=by)
    assert Decision.objects.get().verb == first
    assert Batch.objects.count() == batches


def test_who_read_the_task_before_it_was_decided_comes_too_late(task, by) -> None:
    stale = Task.objects.get(pk=task.pk)
    assert not hasattr(stale, "decision")
    operations.discard_patch(task, by=by)
    with pytest.raises(operations.Conflict, match="decided already"):
        operations.apply_patch(stale, by=by)
    assert not Batch.objects.filter(kind="apply").exists()


def test_a_patch_that_could_not_be_applied_may_be_decided_on_again(task, by, red) -> None:
    operations.apply_patch(task, by=by)
    failed = run_apply(red, "rejected")
    assert (failed.state, failed.failure) == ("failed", "rejected")
    operations.apply_patch(Task.objects.get(pk=task.pk), by=by)
    run_apply(red)
    with pytest.raises(operations.Conflict, match="the patch is applied"):
        operations.discard_patch(Task.objects.get(pk=task.pk), by=by)


def test_the_patch_of_a_later_run_is_decided_on_anew(task, by) -> None:
    operations.discard_patch(task, by=by)
    again = with_patch(task, text="another\n")
    operations.apply_patch(again, by=by)
    decision = Decision.objects.get()
    assert (decision.verb, decision.attempt) == ("apply", 2)


def test_a_task_applies_nothing_that_was_decided_otherwise_since(task, by, red) -> None:
    operations.apply_patch(task, by=by)
    failed = run_apply(red, "rejected")
    assert review.inputs(failed.pk) == {}
    operations.discard_patch(Task.objects.get(pk=task.pk), by=by)
    operations.retry_task(failed, by=by)
    with pytest.raises(InputMissing, match="not to be applied by this task any more"):
        review.inputs(failed.pk)


def test_a_task_applies_nothing_of_an_earlier_run(task, by) -> None:
    [applying] = operations.apply_patch(task, by=by).tasks.all()
    assert review.inputs(applying.pk) == {}
    with_patch(task, text="another\n")
    with pytest.raises(InputMissing, match="not to be applied"):
        review.inputs(applying.pk)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"state": "queued", "result": None, "finished_at": None}, "The task is queued"),
        ({"result": {"patch": None, "applied": "none"}}, "left no patch"),
        ({"result": {"patch": {"artefact": "x"}, "applied": "applied"}}, "in the workspace"),
        ({"result": {"patch": {"artefact": "x"}, "applied": "already"}}, "in the workspace"),
        ({"result": {"rows": 1}}, "left no patch"),
        ({"state": "cancelled", "result": None}, "left no patch"),
    ],
)
def test_where_there_is_no_patch_nothing_is_decided(task, by, columns, words) -> None:
    Task.objects.filter(pk=task.pk).update(**columns)
    for decide in (operations.apply_patch, operations.discard_patch):
        with pytest.raises(operations.Conflict, match=words):
            decide(Task.objects.get(pk=task.pk), by=by)
    assert not Decision.objects.exists()


def test_a_patch_whose_file_has_gone_cannot_be_applied(task, by) -> None:
    default_storage.delete(task.artefacts.get().file.name)
    with pytest.raises(operations.Conflict, match="cannot be read"):
        operations.apply_patch(task, by=by)
    operations.discard_patch(task, by=by)


@pytest.mark.parametrize(
    "columns", [{"state": "failed", "failure": "rejected"}, {"state": "failed", "failure": "limit"}]
)
def test_a_person_may_apply_what_the_agent_itself_would_not(task, by, columns) -> None:
    Task.objects.filter(pk=task.pk).update(**columns)
    assert operations.apply_patch(Task.objects.get(pk=task.pk), by=by).kind == "apply"


def test_who_may_not_use_the_workspace_any_more_applies_nothing(task, by, red) -> None:
    red.groups.clear()
    with pytest.raises(InvalidSubmission, match="workspace"):
        operations.apply_patch(task, by=by)
    assert not Decision.objects.exists()
    assert Batch.objects.count() == 1


def test_nobody_submits_the_kind_that_applies_patches(client_of, admin, red) -> None:
    body = {"workspace": "red", "patches": [{"patch": PATCH, "base_commit": "", "start": []}]}
    for address in ("/batch/apply", "/batch/celery/apply", "/batch/", "/batch/celery/"):
        assert client_of(admin).generic_json("POST", address, body).status_code in {404, 405}
    assert not Batch.objects.exists()


def test_the_api_tells_what_was_decided(task, client_of, operator, red) -> None:
    client = client_of(operator)
    assert client.get(f"/batch/tasks/{task.pk}").json()["decision"] is None
    response = client.generic_json("POST", f"/batch/tasks/{task.pk}/apply")
    assert response.status_code == 202
    applying = Task.objects.get(kind="apply")
    assert response.headers["Location"].endswith(f"/batch/{applying.batch_id}")
    told = response.json()["decision"]
    assert told | {"at": ""} == {
        "verb": "apply", "by": "operator", "at": "", "task": str(applying.pk), "state": "queued",
    }  # fmt: skip
    run_apply(red)
    listed = client.get(f"/batch/{task.batch_id}/tasks").json()["results"]
    assert listed[0]["decision"]["state"] == "succeeded"
    refused = client.generic_json("POST", f"/batch/tasks/{task.pk}/discard")
    assert refused.status_code == 409
    assert refused.json()["detail"] == "It was decided already: the patch is applied."


def test_the_api_tells_of_a_discarded_patch(task, client_of, operator) -> None:
    client = client_of(operator)
    response = client.generic_json("POST", f"/batch/tasks/{task.pk}/discard")
    assert response.status_code == 200
    decision = response.json()["decision"]
    assert (decision["verb"], decision["task"], decision["state"]) == ("discard", None, None)


def test_batches_are_cleaned_up_whatever_was_decided_on_their_tasks(task, by, red) -> None:
    applying = operations.apply_patch(task, by=by)
    run_apply(red)
    assert delete_batch(applying.pk)
    assert Decision.objects.get().applying is None
    Batch.objects.filter(pk=task.batch_id).update(state="done", finished_at=task.finished_at)
    assert delete_batch(task.batch_id)
    assert not Decision.objects.exists()


def run(command: str, *arguments: Any, **options: Any) -> str:
    out = StringIO()
    call_command(command, *map(str, arguments), stdout=out, **options)
    return out.getvalue()


def test_commands_decide_on_several_tasks(operator, make_batch, red) -> None:
    batch = make_batch(operator, 3, workspace="red")
    first, second, third = (with_patch(row) for row in batch.tasks.order_by("position"))
    said = run("apply", first.pk, second.pk, user="operator")
    assert said.count("is being applied by batch") == 2
    told = json.loads(run("discard", third.pk, user="operator", json=True))
    assert told == [{"task": str(third.pk), "verb": "discard", "batch": None}]
    verbs = Decision.objects.order_by("task__position").values_list("verb", flat=True)
    assert list(verbs) == ["apply", "apply", "discard"]


def test_a_command_decides_on_all_it_can_and_names_the_others(
    operator, make_batch, red, by
) -> None:
    batch = make_batch(operator, 2, workspace="red")
    first, second = (with_patch(row) for row in batch.tasks.order_by("position"))
    operations.discard_patch(first, by=by)
    with pytest.raises(CommandError) as refused:
        run("apply", first.pk, second.pk, user="operator")
    assert str(refused.value) == (
        f"Task {first.pk} (0): It was decided already: the patch is discarded."
    )
    assert Decision.objects.get(task=second).verb == "apply"


def test_a_command_names_no_task_of_others(task, stranger) -> None:
    with pytest.raises(CommandError, match="There is no task"):
        run("apply", task.pk, user="stranger")
    assert not Decision.objects.exists()


def test_what_waits_for_review_is_found(operator, make_batch, by, red) -> None:
    batch = make_batch(operator, 4, workspace="red")
    Batch.objects.filter(pk=batch.pk).update(kind="agent")
    waits, discarded, applied, _unfinished = batch.tasks.order_by("position")
    with_patch(waits)
    operations.discard_patch(with_patch(discarded), by=by)
    with_patch(applied, applied="applied")
    assert list(waiting_for_review()) == [{"pk": waits.pk}]
    with_patch(Task.objects.get(pk=discarded.pk))  # run again, with another patch
    assert {row["pk"] for row in waiting_for_review()} == {waits.pk, discarded.pk}
    for artefact in Artefact.objects.all():
        artefact.file.delete(save=False)


def test_a_task_without_a_path_is_called_by_how_its_description_begins(operator, make_batch):
    items = [Item({"path": "a.py"}), Item({"description": "d" * 900}), Item({})]
    tasks = make_batch(operator, items=items).tasks.annotate(path=about()).order_by("position")
    assert list(tasks.values_list("path", flat=True)) == ["a.py", "d" * 200, None]

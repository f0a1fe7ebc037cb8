"""Pausing, resuming, cancelling and retrying from the command line."""

import json
from io import StringIO
from uuid import UUID, uuid4

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command

from batches.management.arguments import beginning_of_id
from batches.models import Batch
from batches.states import AttemptOutcome

# What the commands say does not depend on the database.
pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]

REJECTED, SUCCEEDED = AttemptOutcome.REJECTED, AttemptOutcome.SUCCEEDED


@pytest.fixture(autouse=True)
def boss(db):
    return get_user_model().objects.create_superuser("boss")


def run(*arguments: object) -> str:
    out = StringIO()
    call_command(*map(str, arguments), stdout=out, stderr=StringIO())
    return out.getvalue()


def test_a_batch_is_paused_and_resumed(operator, make_batch):
    batch = make_batch(operator, name="nightly")

    assert run("pause", batch.pk) == "nightly is paused; what runs goes on.\n"
    batch.refresh_from_db()
    assert batch.paused_at

    assert run("resume", batch.pk) == "nightly is no longer paused.\n"
    batch.refresh_from_db()
    assert batch.paused_at is None


def test_what_waits_of_a_batch_is_cancelled(operator, make_batch):
    batch = make_batch(operator, name="nightly")

    assert run("cancel", batch.pk) == "nightly is cancelled; what runs is being stopped.\n"
    assert set(batch.tasks.values_list("state", flat=True)) == {"cancelled"}


def test_one_task_is_cancelled(operator, make_batch):
    first, second = make_batch(operator, 2).tasks.order_by("position")

    told = json.loads(run("cancel", "--task", first.pk, "--json"))

    assert told == {"task": str(first.pk), "batch": str(first.batch_id), "state": "cancelled"}
    second.refresh_from_db()
    assert second.state == "queued"


def test_failed_tasks_are_queued_again(operator, make_batch, finish):
    batch = make_batch(operator, name="nightly")
    finish(REJECTED, REJECTED, SUCCEEDED)

    assert run("retry", batch.pk) == "2 tasks are queued again in nightly.\n"
    assert batch.tasks.filter(state="queued").count() == 2


def test_a_retry_keeps_to_reasons_and_tasks(operator, make_batch, finish):
    batch = make_batch(operator, 3)
    finish(REJECTED, REJECTED, SUCCEEDED)
    first, second, _ = batch.tasks.order_by("position")

    with pytest.raises(CommandError, match="has no such task to retry"):
        run("retry", batch.pk, "--failure", "timeout")
    assert json.loads(run("retry", batch.pk, "--task", first.pk, "--json"))["retried"] == 1
    second.refresh_from_db()
    assert second.state == "failed"
    assert json.loads(run("retry", batch.pk, "--failure", "rejected", "--json"))["retried"] == 1


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_a_program_is_told_in_one_json_object(operator, make_batch, verb):
    batch = make_batch(operator, 2, name="nightly")

    told = json.loads(run(verb, batch.pk, "--json"))

    status = {"pause": "paused", "resume": "queued", "cancel": "cancelled"}[verb]
    state = "cancelled" if verb == "cancel" else "queued"
    assert (told["batch"], told["name"], told["status"]) == (str(batch.pk), "nightly", status)
    assert (told["total"], told["tasks"][state]) == (2, 2)


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_finished_batch_is_left_as_it_is(operator, make_batch, finish, verb):
    batch = make_batch(operator, 1)
    finish(SUCCEEDED)

    with pytest.raises(CommandError, match="The batch is finished"):
        run(verb, batch.pk)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pause", "0190163d-8694-739b-aea5-966c26f8ad90"], "There is no batch 0190163d-8694"),
        (["pause", "0190163"], "is no id: give all of it, or at least its first 8 digits"),
        (["retry", "nightly!"], "is no id"),
        (["cancel"], "Name a batch, or a task with --task"),
        (["cancel", "--task", "0190163d-8694-739b-aea5-966c26f8ad90"], "There is no task 0190163d"),
        (["resume", "0190163d", "--user", "nobody"], "no active user 'nobody'"),
    ],
)
def test_a_mistake_is_named(arguments, words):
    with pytest.raises(CommandError, match=words) as refused:
        run(*arguments)
    assert refused.value.returncode == 1


def test_a_batch_and_a_task_are_not_cancelled_at_once(operator, make_batch):
    batch = make_batch(operator)

    with pytest.raises(CommandError, match="one of the two"):
        run("cancel", batch.pk, "--task", batch.tasks.first().pk)
    assert set(batch.tasks.values_list("state", flat=True)) == {"queued"}


def test_a_task_of_another_batch_is_not_retried(operator, make_batch):
    batch, other = make_batch(operator, name="nightly"), make_batch(operator)
    strange = other.tasks.first().pk

    with pytest.raises(CommandError, match=f"--task: nightly has no task {strange}"):
        run("retry", batch.pk, "--task", strange)


def test_the_beginning_of_an_id_is_enough(operator, make_batch):
    batch = make_batch(operator)

    run("pause", str(batch.pk)[:13].upper())

    batch.refresh_from_db()
    assert batch.paused_at


def test_a_beginning_that_two_batches_share_is_refused(operator, make_batch):
    first, second = make_batch(operator, 1), make_batch(operator, 1)
    for batch, last in ((first, 1), (second, 2)):
        twin = UUID(int=(0x11112222_3333_7444_8555_666677778880 + last))
        batch.tasks.all().delete()
        batch.shares.all().delete()
        Batch.objects.filter(pk=batch.pk).update(id=twin)

    with pytest.raises(CommandError, match="More than one batch begins with 11112222-3333"):
        run("pause", "11112222-3333")
    run("pause", "11112222-3333-7444-8555-666677778881")
    assert Batch.objects.filter(paused_at__isnull=False).count() == 1


@pytest.mark.parametrize("digits", [8, 9, 31, 32])
def test_all_ids_with_the_same_beginning_lie_within_it(digits):
    pk = uuid4()
    beginning = beginning_of_id(pk.hex[:digits])

    assert beginning.first <= pk <= beginning.last
    assert beginning.first.hex[:digits] == beginning.last.hex[:digits] == pk.hex[:digits]


def test_a_user_acts_on_what_they_may_see(operator, stranger, make_batch):
    batch = make_batch(operator)

    with pytest.raises(CommandError, match="There is no batch"):
        run("pause", batch.pk, "--user", stranger.username)
    run("pause", batch.pk, "--user", operator.username)


def test_without_an_administrator_somebody_must_be_named(boss, operator, make_batch):
    batch = make_batch(operator)
    boss.delete()

    with pytest.raises(CommandError, match="say who asks with --user NAME"):
        run("pause", batch.pk)
    batch.refresh_from_db()
    assert batch.paused_at is None


def test_submit_and_watch_tell_programs_too(operator, tmp_path):
    file = tmp_path / "batch.json"
    file.write_text('{"kind": "noop", "items": [{}, {}]}', encoding="utf-8")

    made = json.loads(run("submit", file, "--user", operator.username, "--json"))
    assert (made["status"], made["total"]) == ("queued", 2)

    run("cancel", made["batch"])
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("watch", made["batch"], "--json", stdout=out, stderr=StringIO())
    assert ended.value.code == 1
    assert json.loads(out.getvalue())["tasks"]["cancelled"] == 2


def test_workspaces_are_added_and_removed_for_programs(tmp_path):
    added = json.loads(run("workspace", "add", "shop", tmp_path, "--json"))
    assert (added["name"], added["path"]) == ("shop", str(tmp_path))
    removed = json.loads(run("workspace", "remove", "shop", "--json"))
    assert removed == {"removed": "shop", "path": str(tmp_path)}

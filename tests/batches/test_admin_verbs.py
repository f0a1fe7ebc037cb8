"""Buttons and list actions: they go through operations, and tell what was done or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

from batches.models import Batch, Task, Workspace
from batches.states import AttemptOutcome

BATCHES, TASKS = "/admin/batches/batch/", "/admin/batches/task/"


def log_in(user: User) -> Client:
    User.objects.filter(pk=user.pk).update(is_staff=True)
    browser = Client()
    browser.force_login(user)
    return browser


@pytest.fixture
def browser(operator: User) -> Client:
    return log_in(operator)


def told(answer: Any) -> list[str]:
    """The messages of this answer: nobody has read them, so the next one would bring them too."""
    answer.client.cookies.pop("messages", None)
    return [str(message) for message in get_messages(answer.wsgi_request)]


def do(browser: Client, row: Any, verb: str) -> Any:
    name = f"admin:batches_{row._meta.model_name}_verb"
    return browser.post(reverse(name, args=[row.pk, verb]))


def choose(browser: Client, verb: str, *rows: Any, **more: Any) -> Any:
    chosen = [str(row.pk) for row in rows]
    address = BATCHES if isinstance(rows[0], Batch) else TASKS
    return browser.post(address, {"action": verb, "_selected_action": chosen, **more})


def test_a_batch_is_paused_and_resumed(
    operator: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(operator, name="nightly")
    page = reverse("admin:batches_batch_change", args=[batch.pk])
    answer = do(browser, batch, "pause")
    assert answer["Location"] == page
    assert told(answer) == ["Paused: nightly."]
    batch.refresh_from_db()
    assert batch.paused_at
    shown = browser.get(page).text
    assert "/do/resume/" in shown
    assert "/do/pause/" not in shown
    assert told(do(browser, batch, "resume")) == ["Resumed: nightly."]
    batch.refresh_from_db()
    assert batch.paused_at is None


def test_cancel_asks_first(
    operator: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(operator, name="nightly")
    address = reverse("admin:batches_batch_verb", args=[batch.pk, "cancel"])
    asked = browser.get(address)
    assert "Cancel batch" in asked.text
    assert "nightly" in asked.text
    batch.refresh_from_db()
    assert batch.cancel_requested_at is None
    assert told(browser.post(address)) == ["Cancelled: nightly."]
    assert set(batch.tasks.values_list("state", flat=True)) == {"cancelled"}


def test_failed_tasks_of_a_batch_are_queued_again(
    operator: User,
    browser: Client,
    make_batch: Callable[..., Batch],
    finish: Callable[..., Any],
) -> None:
    batch = make_batch(operator, 3, name="nightly")
    finish(AttemptOutcome.REJECTED, AttemptOutcome.REJECTED, AttemptOutcome.SUCCEEDED)
    assert told(do(browser, batch, "retry")) == ["Queued 2 tasks again: nightly."]
    assert batch.tasks.filter(state="queued").count() == 2
    assert "/do/retry/" not in browser.get(f"{BATCHES}{batch.pk}/change/").text


def test_a_refusal_says_what_was_refused_and_why(
    operator: User,
    browser: Client,
    make_batch: Callable[..., Batch],
    finish: Callable[..., Any],
) -> None:
    batch = make_batch(operator, 1, name="nightly")
    finish(AttemptOutcome.SUCCEEDED)
    assert told(do(browser, batch, "cancel")) == ["Cancel refused. nightly: The batch is finished."]
    assert told(do(browser, batch, "retry")) == [
        "Retry failed refused. nightly: It has no task to retry."
    ]
    task = batch.tasks.get()
    assert told(do(browser, task, "retry")) == [
        (
            f"Retry refused. {task}: Only a failed or cancelled task can be retried; "
            "this one is succeeded."
        )
    ]
    assert told(do(browser, task, "cancel")) == [
        f"Cancel refused. {task}: The task has already succeeded."
    ]


def test_one_task_is_retried_and_cancelled(
    operator: User,
    browser: Client,
    make_batch: Callable[..., Batch],
    finish: Callable[..., Any],
) -> None:
    failed, queued = make_batch(operator, 2).tasks.order_by("position")
    finish(AttemptOutcome.REJECTED)
    assert told(do(browser, failed, "retry")) == [f"Queued again: {failed}."]
    assert told(do(browser, queued, "cancel")) == [f"Cancelled: {queued}."]
    failed.refresh_from_db()
    queued.refresh_from_db()
    assert (failed.state, queued.state) == ("queued", "cancelled")


def test_an_action_does_what_it_can_and_names_the_rest(
    operator: User,
    browser: Client,
    make_batch: Callable[..., Batch],
    finish: Callable[..., Any],
) -> None:
    over = make_batch(operator, 1, name="over")
    finish(AttemptOutcome.SUCCEEDED)
    first, second = (make_batch(operator, 1, name=name) for name in ("first", "second"))
    answer = choose(browser, "pause", over, first, second)
    assert told(answer) == [
        "Paused: 2 batches.",
        "Pause refused. over: The batch is finished.",
    ]
    assert Batch.objects.filter(paused_at__isnull=False).count() == 2


def test_an_action_that_cancels_asks_first(
    operator: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    batches = [make_batch(operator, 1, name=name) for name in ("first", "second")]
    asked = choose(browser, "cancel", *batches)
    assert "Cancel 2 batches" in asked.text
    assert not Task.objects.filter(state="cancelled").exists()
    for batch in batches:
        assert f'value="{batch.pk}"' in asked.text
    answer = choose(browser, "cancel", *batches, confirmed="yes")
    assert told(answer) == ["Cancelled: 2 batches."]
    assert not Task.objects.exclude(state="cancelled").exists()


def test_tasks_are_cancelled_and_retried_in_bulk(
    operator: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    tasks = list(make_batch(operator, 3).tasks.all())
    assert told(choose(browser, "cancel", *tasks, confirmed="yes")) == ["Cancelled: 3 tasks."]
    assert told(choose(browser, "retry", *tasks)) == ["Queued again: 3 tasks."]


def test_no_more_than_a_page_is_acted_on_at_once(
    operator: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    tasks = list(make_batch(operator, 30).tasks.all())
    answer = choose(browser, "cancel", tasks[0], select_across="1", confirmed="yes")
    assert told(answer) == ["At most 25 can be chosen at once; nothing was done."]
    assert not Task.objects.filter(state="cancelled").exists()


def test_many_refusals_are_summed_up(
    operator: User,
    browser: Client,
    make_batch: Callable[..., Batch],
    finish: Callable[..., Any],
) -> None:
    tasks = list(make_batch(operator, 8).tasks.all())
    finish(*[AttemptOutcome.SUCCEEDED] * 8)
    answers = told(choose(browser, "retry", *tasks))
    assert len(answers) == 6
    assert answers[-1] == "Retry was refused for 3 more."


def test_a_viewer_has_no_verbs(
    viewer: User, operator: User, red: Workspace, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(operator, name="nightly", workspace="red")
    task = batch.tasks.first()
    assert task
    browser = log_in(viewer)
    assert "/do/" not in browser.get(f"{BATCHES}{batch.pk}/change/").text
    assert "/do/" not in browser.get(f"{TASKS}{task.pk}/change/").text
    assert 'name="action"' not in browser.get(BATCHES).text
    assert do(browser, batch, "pause").status_code == 403
    assert do(browser, task, "cancel").status_code == 403
    choose(browser, "pause", batch)
    batch.refresh_from_db()
    assert batch.paused_at is None


def test_a_verb_needs_the_token_of_the_form(
    operator: User, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(operator)
    log_in(operator)
    forger = Client(enforce_csrf_checks=True)
    forger.force_login(operator)
    assert do(forger, batch, "pause").status_code == 403


def test_there_are_no_other_verbs(
    operator: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(operator)
    assert do(browser, batch, "delete").status_code == 404
    assert browser.put(f"{BATCHES}{batch.pk}/do/pause/").status_code == 405


def test_the_history_names_who_did_what(
    operator: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(operator, name="nightly")
    do(browser, batch, "pause")
    entry = LogEntry.objects.get(user=operator)
    assert (entry.user, entry.object_id, entry.get_change_message()) == (
        operator,
        str(batch.pk),
        "Paused, in the admin.",
    )
    history = browser.get(reverse("admin:batches_batch_history", args=[batch.pk])).text
    assert "Paused, in the admin." in history

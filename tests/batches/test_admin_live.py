"""The parts of a page that are fetched again and again: often while its row is unfinished."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from batches import operations
from batches.models import Batch, LogLine, Task
from batches.states import AttemptOutcome

# What a page shows does not depend on the database.
pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]


def log_in(user: User) -> Client:
    User.objects.filter(pk=user.pk).update(is_staff=True)
    browser = Client()
    browser.force_login(user)
    return browser


def test_the_parts_of_a_batch_change_until_it_ends(
    operator: User,
    red: Any,
    make_batch: Callable[..., Batch],
    finish: Callable[..., Any],
    django_assert_max_num_queries: Any,
) -> None:
    batch = make_batch(operator, 30, workspace="red", max_attempts=1)
    browser = log_in(operator)
    page = f"/admin/batches/batch/{batch.pk}/change/"
    whole = browser.get(page).content.decode()
    assert 'data-live="on"' in whole
    assert "console/live.js" in whole
    finish(*[AttemptOutcome.ERROR] * 3)
    with django_assert_max_num_queries(14):
        part = browser.get(page, {"live": "1"})
    text = part.content.decode()
    assert part["X-Live"] == "on"
    assert "<html" not in text
    assert "<b>10 %</b> of 30 tasks finished" in text
    assert "27 queued" in text
    assert "error: 3" in text
    finish(*[AttemptOutcome.SUCCEEDED] * 27)
    with django_assert_max_num_queries(14):
        last = browser.get(page, {"live": "1"})
    assert last["X-Live"] == "off"
    assert "Failed" in last.content.decode()
    assert 'data-live="off"' in browser.get(page).content.decode()


def test_what_was_asked_for_is_shown_as_it_is_now(
    operator: User, red: Any, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(operator, 1, workspace="red")
    browser = log_in(operator)
    page = f"/admin/batches/batch/{batch.pk}/change/"
    asked = '<div class="oc-part" data-live-part="asked">'
    assert "no limit" in browser.get(page).content.decode().partition(asked)[2]
    operations.change_batch(batch, parallel=3)
    changed = browser.get(page, {"live": "1"}).content.decode().partition(asked)[2]
    assert "3 tasks" in changed
    assert "no limit" not in changed


def test_the_log_of_a_task_grows(
    operator: User, red: Any, make_batch: Callable[..., Batch], start: Callable[..., Any]
) -> None:
    make_batch(operator, 1, workspace="red")
    start(1)
    task = Task.objects.get()
    browser = log_in(operator)
    page = f"/admin/batches/task/{task.pk}/change/"
    assert "compiling" not in browser.get(page, {"live": "1"}).content.decode()
    LogLine.objects.create(
        task=task, attempt=1, at=task.created_at, event="output", fields={"line": "compiling"}
    )
    part = browser.get(page, {"live": "1"})
    assert part["X-Live"] == "on"
    assert "compiling" in part.content.decode()
    assert "How it is run" not in part.content.decode()


def test_parts_are_shown_to_those_who_may_see_the_page(
    operator: User, stranger: User, red: Any, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(operator, 1, workspace="red")
    page = f"/admin/batches/batch/{batch.pk}/change/?live=1"
    assert log_in(stranger).get(page).status_code == 404
    assert Client().get(page).status_code == 302

"""Every verb leaves one entry in the history of its row: who, what, and how they came in."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from knox.models import AuthToken

from batches import operations
from batches.audit import Actor, Via
from batches.models import Batch, Queue, Task, Workspace
from batches.states import AttemptOutcome

REJECTED, SUCCEEDED = AttemptOutcome.REJECTED, AttemptOutcome.SUCCEEDED


def written() -> list[tuple[str, str, str, int, str]]:
    """User, kind of row, its key, what kind of entry, and its words: the oldest first."""
    entries = LogEntry.objects.select_related("user", "content_type").order_by("pk")
    return [
        (
            entry.user.get_username(),
            entry.content_type.model if entry.content_type else "",
            str(entry.object_id),
            entry.action_flag,
            entry.get_change_message(),
        )
        for entry in entries
    ]


def log_in(user: User) -> Client:
    User.objects.filter(pk=user.pk).update(is_staff=True)
    browser = Client()
    browser.force_login(user)
    return browser


def run(*arguments: object) -> None:
    call_command(*map(str, arguments), stdout=StringIO(), stderr=StringIO())


def press(browser: Client, row: Batch | Task, verb: str) -> None:
    name = f"admin:batches_{row._meta.model_name}_verb"
    assert browser.post(reverse(name, args=[row.pk, verb])).status_code == 302


@pytest.fixture
def failed(admin: User, make_batch: Callable[..., Batch], finish: Callable[..., Any]) -> Batch:
    """One task failed, one waits."""
    batch = make_batch(admin, 2, name="nightly")
    finish(REJECTED)
    return batch


def task_in(batch: Batch, state: str) -> Task:
    task: Task = batch.tasks.get(state=state)
    return task


def test_what_is_asked_of_a_batch_over_the_api(client_of: Any, admin: User, failed: Batch) -> None:
    client, address = client_of(admin), f"/batch/{failed.pk}"
    client.patch(address, {"paused": True})
    client.patch(address, {"paused": False})
    client.patch(address, {"priority": 9, "parallel": 2})
    client.patch(address, {"priority": None})
    client.patch(address, {"parallel": None})
    client.post(f"{address}/retry", {"failure": ["rejected"]})
    client.delete(address)
    assert written() == [
        ("admin", "batch", str(failed.pk), CHANGE, f"{words}, over the API.")
        for words in (
            "Paused",
            "Resumed",
            "Changed: priority 9, parallel 2",
            "Changed: priority none",
            "Changed: parallel none",
            "Retried its tasks that failed as rejected",
            "Cancelled",
        )
    ]


def test_what_is_submitted_over_the_api(client_of: Any, operator: User) -> None:
    made = client_of(operator).post("/batch/noop", {"items": [{}, {}]}).json()["id"]
    assert written() == [
        ("operator", "batch", made, ADDITION, "Submitted with 2 tasks, over the API.")
    ]


def test_what_is_asked_of_a_task_over_the_api(client_of: Any, admin: User, failed: Batch) -> None:
    client, over, waits = client_of(admin), task_in(failed, "failed"), task_in(failed, "queued")
    client.patch(f"/batch/tasks/{waits.pk}", {"priority": 8})
    client.post(f"/batch/tasks/{waits.pk}/cancel")
    client.post(f"/batch/tasks/{over.pk}/retry")
    assert written() == [
        ("admin", "task", str(waits.pk), CHANGE, "Changed: priority 8, over the API."),
        ("admin", "task", str(waits.pk), CHANGE, "Cancelled, over the API."),
        ("admin", "task", str(over.pk), CHANGE, "Retried, over the API."),
    ]


def test_what_is_asked_of_queues_and_workspaces_over_the_api(
    client_of: Any, admin: User, tmp_path: Any
) -> None:
    client = client_of(admin)
    client.patch("/batch/queues/tests", {"priority": 9, "paused": True, "rate_limit": 60})
    client.patch("/batch/queues/tests", {"paused": False})
    secret = {"variables": {"KEY": "hunter2"}}
    made = client.post("/batch/workspaces", {"name": "shop", "path": str(tmp_path)}).json()["id"]
    client.patch("/batch/workspaces/shop", {"environment": secret, "groups": ["viewer"]})
    client.delete("/batch/workspaces/shop")
    queue, shop = ("admin", "queue", "tests", CHANGE), ("admin", "workspace", str(made))
    assert written() == [
        (*queue, "Changed: paused, priority 9, rate limit 60, over the API."),
        (*queue, "Changed: resumed, over the API."),
        (*shop, ADDITION, f"Added for {tmp_path}, over the API."),
        (*shop, CHANGE, "Changed: environment, groups, over the API."),
        (*shop, DELETION, "Removed, over the API."),
    ]


def test_what_is_asked_of_batches_and_tasks_in_the_admin(admin: User, failed: Batch) -> None:
    browser, over, waits = log_in(admin), task_in(failed, "failed"), task_in(failed, "queued")
    for verb in ("pause", "resume", "retry"):
        press(browser, failed, verb)
    press(browser, waits, "cancel")
    press(browser, waits, "retry")
    press(browser, failed, "cancel")
    assert over.pk != waits.pk
    batch, task = ("admin", "batch", str(failed.pk)), ("admin", "task", str(waits.pk))
    assert written() == [
        (*batch, CHANGE, "Paused, in the admin."),
        (*batch, CHANGE, "Resumed, in the admin."),
        (*batch, CHANGE, "Retried its tasks, in the admin."),
        (*task, CHANGE, "Cancelled, in the admin."),
        (*task, CHANGE, "Retried, in the admin."),
        (*batch, CHANGE, "Cancelled, in the admin."),
    ]


def test_forms_of_the_admin_leave_one_entry_each(admin: User, tmp_path: Any) -> None:
    browser, queue = log_in(admin), "/admin/batches/queue/tests/change/"
    browser.post(queue, {"priority": "9", "paused": "on", "concurrency_limit": "4"})
    browser.post(queue, {"priority": "9", "paused": "on", "concurrency_limit": "4"})
    form = {"name": "shop", "path": str(tmp_path), "virtualenv": "", "extra_path": ""}
    workspaces = "/admin/batches/workspace/"
    browser.post(f"{workspaces}add/", form | {"variables": ""})
    shop = Workspace.objects.get()
    browser.post(f"{workspaces}{shop.pk}/change/", form | {"variables": "KEY=hunter2"})
    browser.post(f"{workspaces}{shop.pk}/delete/", {"post": "yes"})
    row = ("admin", "workspace", str(shop.pk))
    changed = "Changed: paused, priority 9, concurrency limit 4, in the admin."
    assert written() == [
        ("admin", "queue", "tests", CHANGE, changed),
        (*row, ADDITION, f"Added for {tmp_path}, in the admin."),
        (*row, CHANGE, "Changed: environment, in the admin."),
        (*row, DELETION, "Removed, in the admin."),
    ]


def test_what_is_asked_on_the_command_line(
    make_user: Callable[..., User], failed: Batch, tmp_path: Any
) -> None:
    make_user("boss", is_superuser=True)
    for verb in ("pause", "resume", "retry"):
        run(verb, failed.pk)
    waits = failed.tasks.order_by("position")[0]
    run("cancel", "--task", waits.pk)
    run("retry", failed.pk, "--task", waits.pk, "--user", "admin")
    run("cancel", failed.pk)
    run("workspace", "add", "shop", tmp_path)
    shop = str(Workspace.objects.get().pk)
    run("workspace", "remove", "shop", "--user", "admin")
    batch, command = str(failed.pk), "on the command line."
    assert written() == [
        ("boss", "batch", batch, CHANGE, f"Paused, {command}"),
        ("boss", "batch", batch, CHANGE, f"Resumed, {command}"),
        ("boss", "batch", batch, CHANGE, f"Retried its tasks, {command}"),
        ("boss", "task", str(waits.pk), CHANGE, f"Cancelled, {command}"),
        ("admin", "batch", batch, CHANGE, f"Retried 1 chosen task, {command}"),
        ("boss", "batch", batch, CHANGE, f"Cancelled, {command}"),
        ("boss", "workspace", shop, ADDITION, f"Added for {tmp_path}, {command}"),
        ("admin", "workspace", shop, DELETION, f"Removed, {command}"),
    ]


def test_a_batch_of_a_file_is_submitted_by_its_owner(operator: User, tmp_path: Any) -> None:
    file = tmp_path / "batch.json"
    file.write_text('{"kind": "noop", "items": [{}]}', encoding="utf-8")
    run("submit", file, "--user", operator.username)
    words = "Submitted with 1 task, on the command line."
    assert written() == [("operator", "batch", str(Batch.objects.get().pk), ADDITION, words)]


def test_tokens_are_in_the_history_of_their_user(admin: User, viewer: User) -> None:
    run("token", "viewer", "--user", "admin")
    token = AuthToken.objects.get()
    log_in(viewer).post(reverse("admin:knox_authtoken_revoke", args=[token.token_key]))
    begins = f"{token.token_key[:8]}…"
    row = ("user", str(viewer.pk), CHANGE)
    assert written() == [
        ("admin", *row, f"Made the API token {begins}, on the command line."),
        ("viewer", *row, f"Revoked the API token {begins}, in the admin."),
    ]


def test_what_is_refused_leaves_no_entry(
    client_of: Any,
    admin: User,
    stranger: User,
    red: Workspace,
    make_batch: Callable[..., Batch],
    finish: Callable[..., Any],
) -> None:
    over = make_batch(admin, 1, workspace="red")
    finish(SUCCEEDED)
    task, client, browser = over.tasks.get(), client_of(admin), log_in(admin)
    assert client.patch(f"/batch/{over.pk}", {"paused": True, "priority": 3}).status_code == 409
    assert client.delete(f"/batch/{over.pk}").status_code == 409
    assert client.post(f"/batch/{over.pk}/retry").json()["retried"] == 0
    assert client.post(f"/batch/tasks/{task.pk}/cancel").status_code == 409
    assert client.patch(f"/batch/tasks/{task.pk}", {"priority": 3}).status_code == 409
    assert client.post("/batch/noop", {"items": [{"priority": 11}]}).status_code == 400
    assert client.delete("/batch/workspaces/red").status_code == 409
    assert client_of(stranger).delete(f"/batch/{over.pk}").status_code == 404
    press(browser, over, "cancel")
    press(browser, task, "retry")
    browser.post(f"/admin/batches/workspace/{red.pk}/delete/", {"post": "yes"})
    with pytest.raises(CommandError):
        run("cancel", over.pk, "--user", "admin")
    assert written() == []


def test_what_was_so_already_is_not_told_twice(admin: User, failed: Batch) -> None:
    for _ in range(2):
        run("pause", failed.pk, "--user", "admin")
    for _ in range(2):
        run("resume", failed.pk, "--user", "admin")
    assert [entry[-1].split(",")[0] for entry in written()] == ["Paused", "Resumed"]


def test_the_history_does_not_make_many_tasks_dear(
    admin: User, make_batch: Callable[..., Batch], finish: Callable[..., Any]
) -> None:
    by = Actor(admin, Via.API)

    def inserts(number: int) -> list[str]:
        batch = make_batch(admin, number)
        finish(*[REJECTED] * number)
        with CaptureQueriesContext(connection) as ran:
            assert operations.retry_batch(batch, by=by) == number
            operations.cancel_batch(batch, by=by)
        return [query["sql"] for query in ran if "admin_log" in query["sql"]]

    assert [len(inserts(number)) for number in (1, 30)] == [2, 2]


def test_an_action_on_many_rows_writes_one_entry_for_each(
    admin: User, make_batch: Callable[..., Batch]
) -> None:
    batches = [make_batch(admin, 1) for _ in range(3)]
    chosen = {"action": "pause", "_selected_action": [str(batch.pk) for batch in batches]}
    browser = log_in(admin)
    with CaptureQueriesContext(connection) as ran:
        browser.post("/admin/batches/batch/", chosen)
    assert {entry[2] for entry in written()} == {str(batch.pk) for batch in batches}
    assert len([query for query in ran if "admin_log" in query["sql"]]) == 3


@pytest.mark.parametrize("kind", ["batch", "task", "queue", "workspace"])
def test_the_history_is_shown_to_those_who_may_see_the_row(
    kind: str,
    admin: User,
    viewer: User,
    stranger: User,
    nobody: User,
    red: Workspace,
    make_batch: Callable[..., Batch],
) -> None:
    batch, by = make_batch(admin, 1, workspace="red"), Actor(admin, Via.API)
    rows = {"batch": batch, "task": batch.tasks.get(), "queue": Queue.objects.get(pk="tests")}
    operations.pause_batch(batch, by=by)
    operations.change_task(rows["task"], priority=3, by=by)
    operations.change_queue(rows["queue"], priority=3, by=by)
    operations.change_workspace(red, environment={}, by=by)
    page = reverse(f"admin:batches_{kind}_history", args=[(rows | {"workspace": red})[kind].pk])
    for user in (admin, viewer):
        shown = log_in(user).get(page)
        assert shown.status_code == 200
        assert ", over the API." in shown.text
    if kind != "queue":
        assert log_in(stranger).get(page).status_code == 302
    assert ", over the API." not in log_in(nobody).get(page).text


def test_there_is_no_change_without_its_entry(
    admin: User, make_batch: Callable[..., Batch], finish: Callable[..., Any]
) -> None:
    over = make_batch(admin, 1)
    finish(REJECTED)
    batch, by = make_batch(admin, 1), Actor(User(), Via.API)  # who was never stored
    task = batch.tasks.get()
    for verb in (
        lambda: operations.retry_batch(over, by=by),
        lambda: operations.pause_batch(batch, by=by),
        lambda: operations.change_batch(batch, priority=9, by=by),
        lambda: operations.change_task(task, priority=9, by=by),
        lambda: operations.cancel_task(task, by=by),
        lambda: operations.cancel_batch(batch, by=by),
    ):
        with pytest.raises(IntegrityError):
            verb()
    batch.refresh_from_db()
    task.refresh_from_db()
    assert (batch.paused_at, batch.cancel_requested_at, batch.priority) == (None, None, None)
    assert (task.state, task.priority) == ("queued", 5)
    assert over.tasks.get().state == "failed"

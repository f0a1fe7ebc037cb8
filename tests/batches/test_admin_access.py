"""Who may look at what in the admin, and that nobody edits a state by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django_celery_results.models import TaskResult

from batches.models import Attempt, Batch, Resource, Task, Worker, Workspace

# What a page shows does not depend on the database.
pytestmark = pytest.mark.sqlite_only

LISTS = ["batch", "task", "queue", "worker", "workspace", "mcpserver", "modelprofile", "resource"]
OF_CELERY = [
    "taskresult", "periodictask", "intervalschedule", "crontabschedule", "clockedschedule",
]  # fmt: skip
POLICY = "Content-Security-Policy"


@pytest.fixture
def browse() -> Callable[[User], Client]:
    """A browser in which the user, made staff, is logged in."""

    def log_in(user: User) -> Client:
        User.objects.filter(pk=user.pk).update(is_staff=True)
        browser = Client()
        browser.force_login(user)
        return browser

    return log_in


@pytest.fixture
def batch(operator: User, red: Workspace, make_batch: Callable[..., Batch]) -> Batch:
    return make_batch(operator, name="of the red team", workspace="red")


@pytest.fixture
def boss(make_user: Callable[..., User]) -> User:
    return make_user("boss", is_superuser=True)


def pages_of(batch: Batch) -> list[str]:
    task = batch.tasks.first()
    return [
        reverse("admin:index"),
        *(reverse(f"admin:batches_{name}_changelist") for name in LISTS),
        reverse("admin:batches_batch_change", args=[batch.pk]),
        reverse("admin:batches_batch_history", args=[batch.pk]),
        reverse("admin:batches_task_change", args=[task.pk]),
        reverse("admin:batches_task_history", args=[task.pk]),
        reverse("admin:batches_queue_change", args=["tests"]),
        reverse("admin:batches_workspace_change", args=[batch.workspace_id]),
        reverse("admin:knox_authtoken_changelist"),
        reverse("admin:app_list", args=["batches"]),
    ]


@pytest.mark.parametrize("name", ["viewer", "operator", "admin", "boss"])
def test_every_group_can_open_every_page(
    name: str, batch: Batch, browse: Callable[[User], Client], request: pytest.FixtureRequest
) -> None:
    browser = browse(request.getfixturevalue(name))
    for page in pages_of(batch):
        assert browser.get(page).status_code == 200, page


def test_only_those_with_the_permission_see_users(
    boss: User, admin: User, browse: Callable[[User], Client]
) -> None:
    for name in ("user", "group"):
        address = reverse(f"admin:auth_{name}_changelist")
        assert browse(boss).get(address).status_code == 200
        assert browse(admin).get(address).status_code == 403
    assert browse(boss).get(reverse("admin:auth_user_add")).status_code == 200
    assert browse(boss).get(reverse("admin:auth_user_change", args=[admin.pk])).status_code == 200


def test_without_a_login_every_page_asks_for_one(batch: Batch, client: Client) -> None:
    for page in pages_of(batch):
        answer = client.get(page)
        assert answer.status_code == 302
        assert answer["Location"].startswith(reverse("admin:login"))


def test_staff_without_a_group_sees_no_numbers(
    nobody: User, batch: Batch, browse: Callable[[User], Client]
) -> None:
    browser = browse(nobody)
    assert "ask for one of the groups" in browser.get(reverse("admin:index")).text
    assert browser.get(reverse("admin:batches_batch_changelist")).status_code == 403
    assert browser.get(reverse("admin:batches_batch_change", args=[batch.pk])).status_code == 403


def test_another_teams_batch_is_not_there(
    stranger: User, batch: Batch, browse: Callable[[User], Client]
) -> None:
    browser, task = browse(stranger), batch.tasks.get(position=0)
    assert str(batch) not in browser.get(reverse("admin:batches_batch_changelist")).text
    assert str(batch) not in browser.get(reverse("admin:index")).text
    assert str(task.pk) not in browser.get(reverse("admin:batches_task_changelist")).text
    for page in (
        reverse("admin:batches_batch_change", args=[batch.pk]),
        reverse("admin:batches_batch_verb", args=[batch.pk, "cancel"]),
        reverse("admin:batches_task_change", args=[task.pk]),
        reverse("admin:batches_task_json", args=[task.pk, "payload"]),
        reverse("admin:batches_task_artefact", args=[task.pk, 1, "junit.xml"]),
    ):
        assert browser.get(page).status_code == 404, page


@pytest.mark.parametrize("page", ["nonsense/change/", "nonsense/", "0/change/", "nonsense/cancel/"])
@pytest.mark.parametrize("model", ["batch", "task"])
def test_an_address_with_a_wrong_id_is_not_there(
    operator: User, browse: Callable[[User], Client], model: str, page: str
) -> None:
    answer = browse(operator).get(f"/admin/batches/{model}/{page}", follow=True)
    assert answer.status_code == 404
    assert "<h1>Nothing is here</h1>" in answer.text
    assert '<a href="/admin/">' in answer.text


@pytest.mark.parametrize("model", [Batch, Task, Worker, Resource])
def test_nothing_that_the_queue_writes_is_added_changed_or_deleted_by_hand(
    model: Any, boss: User, batch: Batch, browse: Callable[[User], Client]
) -> None:
    browser = browse(boss)
    row, before = model.objects.first(), model.objects.count()
    key = row.pk if row else "none"
    name = f"admin:batches_{model._meta.model_name}"
    # A batch is added by submitting it, of which its state is no part.
    refused = 200 if model is Batch else 403
    assert browser.get(reverse(f"{name}_add")).status_code == refused
    assert browser.post(reverse(f"{name}_add"), {"state": "done"}).status_code == refused
    changed = browser.post(reverse(f"{name}_change", args=[key]), {"state": "succeeded"})
    assert changed.status_code == 405
    if row:
        assert browser.post(reverse(f"{name}_delete", args=[key])).status_code == 403
        assert model.objects.filter(pk=row.pk).exists()
    deleted = browser.post(
        reverse(f"{name}_changelist"),
        {"action": "delete_selected", "_selected_action": [str(key)], "post": "yes"},
    )
    assert deleted.status_code in {200, 302}
    assert model.objects.count() == before
    assert Batch.objects.filter(pk=batch.pk, state="open").exists()


def test_attempts_lines_and_files_have_no_menu_of_their_own(boss: User) -> None:
    from django.contrib import admin

    admin.autodiscover()
    assert not admin.site.is_registered(Attempt)
    assert {model._meta.model_name for model in admin.site._registry} == {
        *LISTS,
        *OF_CELERY,
        "user",
        "group",
        "authtoken",
    }


def test_only_the_admin_may_evaluate_strings(
    viewer: User, browse: Callable[[User], Client]
) -> None:
    browser = browse(viewer)
    inside = browser.get(reverse("admin:index"))[POLICY]
    assert "script-src 'self' 'unsafe-eval'" in inside
    assert "unsafe-inline" not in inside.split("script-src")[1].split(";")[0]
    assert "object-src 'none'" in inside
    assert "unsafe-eval" not in browser.get("/batch")[POLICY]


def test_no_page_carries_a_script_of_its_own(
    boss: User, batch: Batch, browse: Callable[[User], Client]
) -> None:
    browser = browse(boss)
    for page in pages_of(batch):
        for tag in browser.get(page).text.split("<script")[1:]:
            assert "src=" in tag.split(">")[0], page


def test_the_side_bar_shows_only_what_its_user_may_see(
    viewer: User, boss: User, browse: Callable[[User], Client]
) -> None:
    users = reverse("admin:auth_user_changelist")
    index = reverse("admin:index")
    assert users in browse(boss).get(index).text
    seen = browse(viewer).get(index).text
    assert users not in seen
    assert reverse("admin:batches_task_changelist") in seen


def test_login_leads_to_the_dashboard(viewer: User, client: Client) -> None:
    User.objects.filter(pk=viewer.pk).update(is_staff=True)
    login = {"username": "viewer", "password": "a long password"}
    assert client.post(reverse("admin:login"), login)["Location"] == reverse("admin:index")


def test_celerys_own_tables_have_pages_that_fit_in(
    boss: User, viewer: User, browse: Callable[[User], Client]
) -> None:
    result = TaskResult.objects.create(task_id="1", status="FAILURE", result="{}")
    browser = browse(boss)
    for page in (
        reverse("admin:django_celery_results_taskresult_changelist"),
        reverse("admin:django_celery_results_taskresult_change", args=[result.pk]),
        reverse("admin:django_celery_beat_periodictask_add"),
        reverse("admin:django_celery_beat_crontabschedule_changelist"),
    ):
        assert browser.get(page).status_code == 200, page
    change = reverse("admin:django_celery_results_taskresult_change", args=[result.pk])
    assert browser.post(change, {"status": "SUCCESS"}).status_code == 403
    assert b"Schedules" in browser.get(reverse("admin:index")).content
    other = browse(viewer)
    assert other.get(change).status_code == 403
    assert b"Schedules" not in other.get(reverse("admin:index")).content

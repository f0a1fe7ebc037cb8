"""The dashboard, the page of a batch, queues, workers, workspaces and tokens."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from knox.models import AuthToken

from batches import registry
from batches.models import Batch, Queue, Resource, Worker, Workspace
from batches.states import AttemptOutcome

# What a page shows does not depend on the database.
pytestmark = pytest.mark.sqlite_only

WORKSPACES = "/admin/batches/workspace/"


def log_in(user: User) -> Client:
    User.objects.filter(pk=user.pk).update(is_staff=True)
    browser = Client()
    browser.force_login(user)
    return browser


@pytest.fixture
def browser(admin: User) -> Client:
    return log_in(admin)


def make_worker(name: str, **fields: Any) -> Worker:
    wanted = {"backend": "database", "host": "h", "pid": 7, "slots": 4, "running": 1} | fields
    seen_at = wanted.pop("seen_at", timezone.now())
    worker = Worker.objects.create(name=name, **wanted)
    Worker.objects.filter(pk=worker.pk).update(seen_at=seen_at)
    return worker


def test_the_dashboard_tells_what_runs_waits_and_failed(
    admin: User,
    browser: Client,
    make_batch: Callable[..., Batch],
    start: Callable[..., Any],
    finish: Callable[..., Any],
) -> None:
    make_batch(admin, 5)
    make_batch(admin, 2, queue="tests", name="the other")
    finish(AttemptOutcome.REJECTED)
    start(2)
    make_worker("w1")
    Resource.objects.create(
        name="model:qwen", kind="agent", away_since=timezone.now(), reason="refused"
    )
    context = browser.get("/admin/").context
    assert [(one["label"], one["number"]) for one in context["figures"]] == [
        ("Running", "2"),
        ("Waiting", "4"),
        ("Failed in 24 hours", "1"),
        ("Slots in use", "1 of 4"),
    ]
    depth = {one["row"].name: (one["waiting"], one["running"]) for one in context["queues"]}
    assert sum(int(waiting) for waiting, _ in depth.values()) == 4
    assert sum(int(running) for _, running in depth.values()) == 2
    page = browser.get("/admin/").text
    assert "the other" in page
    assert "submit a batch</a>" in page
    assert "model:qwen" in page


def test_the_dashboard_costs_as_much_with_many_batches(
    admin: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as ran:
            browser.get("/admin/")
        return len(ran)

    make_batch(admin, 1)
    few = queries()
    for _ in range(12):
        make_batch(admin, 3)
    assert queries() == few == 13


def test_a_batch_tells_how_far_it_is_and_why_tasks_failed(
    admin: User, browser: Client, make_batch: Callable[..., Batch], finish: Callable[..., Any]
) -> None:
    batch = make_batch(admin, 4, name="nightly", labels=("red", "blue"), options={"x": 1})
    finish(AttemptOutcome.SUCCEEDED, AttemptOutcome.REJECTED, error="two findings")
    answer = browser.get(reverse("admin:batches_batch_change", args=[batch.pk]))
    told = {one["name"]: one["number"] for one in answer.context["states"]}
    assert told == {"succeeded": "1", "failed": "1", "queued": "2"}
    assert [(one["name"], one["number"]) for one in answer.context["failures"]] == [
        ("rejected", "1")
    ]
    assert "two findings" in answer.text
    assert "red, blue" in answer.text
    assert "<b>50 %</b> of 4 tasks finished" in answer.text
    for link in [*answer.context["states"], *answer.context["failures"]]:
        listed = browser.get(link["url"])
        assert len(listed.context["cl"].result_list) == int(link["number"])


def test_a_finished_batch_is_told_from_its_summary(
    admin: User, browser: Client, make_batch: Callable[..., Batch], finish: Callable[..., Any]
) -> None:
    batch = make_batch(admin, 2)
    finish(AttemptOutcome.SUCCEEDED, AttemptOutcome.REJECTED)
    with CaptureQueriesContext(connection) as ran:
        answer = browser.get(reverse("admin:batches_batch_change", args=[batch.pk]))
    assert not [query for query in ran if "GROUP BY" in query["sql"]]
    assert {one["name"]: one["number"] for one in answer.context["states"]} == {
        "succeeded": "1",
        "failed": "1",
    }
    assert "/do/retry/" in answer.text


@pytest.mark.parametrize(
    ("kind", "forms"),
    [
        ("validation", ["results", "results?format=csv", "sarif"]),
        ("test", ["results", "results?format=csv", "junit"]),
        ("mcp", ["results", "results?format=csv"]),
    ],
)
def test_the_results_of_a_batch_are_downloaded_from_its_page(
    admin: User, browser: Client, make_batch: Callable[..., Batch], kind: str, forms: list[str]
) -> None:
    batch = make_batch(admin, 2)
    Batch.objects.filter(pk=batch.pk).update(kind=kind)
    answer = browser.get(reverse("admin:batches_batch_change", args=[batch.pk]))
    links = [url for _, url in answer.context["downloads"]]
    assert links == [f"/batch/{batch.pk}/{form}" for form in forms]
    for link in links:
        assert f'href="{link}" download' in answer.text
        file = browser.get(link)
        assert (file.status_code, "attachment" in file["Content-Disposition"]) == (200, True)


def test_a_paused_batch_has_no_time_left(
    admin: User, browser: Client, make_batch: Callable[..., Batch], finish: Callable[..., Any]
) -> None:
    batch = make_batch(admin, 4, parallel=1)
    for _ in range(2):
        finish(AttemptOutcome.SUCCEEDED)
    page = reverse("admin:batches_batch_change", args=[batch.pk])
    assert browser.get(page).context["time_left"]
    assert "1 task</dd>" in browser.get(page).text
    Batch.objects.filter(pk=batch.pk).update(paused_at=timezone.now())
    assert not browser.get(page).context["time_left"]


def test_an_empty_batch_has_a_page(
    admin: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(admin, 1)
    batch.tasks.all().delete()
    Batch.objects.filter(pk=batch.pk).update(total=0)
    page = browser.get(reverse("admin:batches_batch_change", args=[batch.pk])).text
    assert "It has no tasks." in page


def test_queues_show_their_depth_in_one_query(
    admin: User, browser: Client, make_batch: Callable[..., Batch], start: Callable[..., Any]
) -> None:
    make_batch(admin, 3, queue="tests")
    start(1)
    with CaptureQueriesContext(connection) as ran:
        answer = browser.get("/admin/batches/queue/")
    assert len([query for query in ran if "GROUP BY" in query["sql"]]) == 1
    depth = {queue.name: queue.depth for queue in answer.context["cl"].result_list}
    assert depth["tests"] == {"queued": 2, "running": 1}
    assert depth["default"] == {}


def test_a_queue_is_changed_through_operations(
    admin: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(admin, 2, queue="tests")
    answer = browser.post(
        "/admin/batches/queue/tests/change/",
        {"priority": "9", "paused": "on", "concurrency_limit": "4", "rate_limit": ""},
    )
    assert answer.status_code == 302
    queue = Queue.objects.get(pk="tests")
    assert (queue.priority, queue.concurrency_limit, queue.rate_limit) == (9, 4, None)
    assert queue.paused_at
    assert set(batch.tasks.values_list("priority", flat=True)) == {9}
    browser.post("/admin/batches/queue/tests/change/", {"priority": "9", "concurrency_limit": "4"})
    queue.refresh_from_db()
    assert queue.paused_at is None


@pytest.mark.parametrize(
    "wrong", [{"priority": "11"}, {"priority": "-1"}, {"priority": "5", "rate_limit": "0"}]
)
def test_a_queue_refuses_what_is_out_of_range(wrong: dict[str, str], browser: Client) -> None:
    answer = browser.post("/admin/batches/queue/tests/change/", wrong)
    assert answer.status_code == 200
    assert answer.context["adminform"].errors
    assert Queue.objects.get(pk="tests").priority == 6


def test_an_operator_may_look_at_queues_only(operator: User) -> None:
    browser = log_in(operator)
    assert 'name="priority"' not in browser.get("/admin/batches/queue/tests/change/").text
    changed = browser.post("/admin/batches/queue/tests/change/", {"priority": "9"})
    assert changed.status_code == 403
    assert browser.get("/admin/batches/queue/add/").status_code == 403
    assert browser.post("/admin/batches/queue/tests/delete/").status_code == 403


def test_workers_are_live_draining_stale_or_stopped(browser: Client) -> None:
    long_ago = timezone.now() - timedelta(minutes=5)
    make_worker("live")
    make_worker("draining", state="draining")
    make_worker("stale", seen_at=long_ago)
    make_worker("stopped", state="stopped", seen_at=long_ago)
    answer = browser.get("/admin/batches/worker/")
    for name in ("live", "draining", "stale", "stopped"):
        assert f"oc-is-{name}" in answer.text
    assert {row.name for row in answer.context["cl"].result_list if row.is_live} == {
        "live",
        "draining",
    }


def test_a_worker_that_serves_everything_says_so_in_two_words(browser: Client) -> None:
    queues = list(Queue.objects.values_list("name", flat=True))
    make_worker("all of Celery's", queues=queues, kinds=list(registry.kinds()))
    make_worker("all", queues=[], kinds=list(registry.kinds()))
    make_worker("some", queues=["tests", "default"], kinds=["noop"])
    page = browser.get("/admin/batches/worker/").text
    assert page.count("every queue") == page.count("every kind") == 2
    assert "tests, default" in page


def test_resources_are_listed_while_they_are_away(browser: Client) -> None:
    Resource.objects.create(name="mcp:back", kind="mcp")
    Resource.objects.create(
        name="mcp:gone", kind="mcp", away_since=timezone.now(), reason="<b>no answer</b>"
    )
    page = browser.get("/admin/batches/resource/").text
    assert "mcp:gone" in page
    assert "&lt;b&gt;no answer" in page
    assert "mcp:back" not in page


def test_a_workspace_is_registered_changed_and_removed(browser: Client, tmp_path: Path) -> None:
    group = Group.objects.get(name="viewer")
    form = {
        "name": "site",
        "path": str(tmp_path),
        "virtualenv": "",
        "extra_path": "/opt/a\n\n /opt/b ",
        "variables": "A=1\nB=x=y\n",
        "groups": [group.pk],
    }
    assert browser.post(f"{WORKSPACES}add/", form).status_code == 302
    site = Workspace.objects.get(name="site")
    assert site.environment == {
        "virtualenv": "",
        "path": ["/opt/a", "/opt/b"],
        "variables": {"A": "1", "B": "x=y"},
    }
    assert list(site.groups.all()) == [group]
    page = f"{WORKSPACES}{site.pk}/change/"
    assert "B=x=y" in browser.get(page).text
    changed = browser.post(page, form | {"variables": "", "groups": [], "name": "other"})
    assert changed.status_code == 302
    site.refresh_from_db()
    assert site.name == "site"
    assert site.environment["variables"] == {}
    assert not site.groups.exists()
    assert browser.post(f"{WORKSPACES}{site.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Workspace.objects.exists()
    assert tmp_path.is_dir()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Not A Name"),
        ("name", "taken"),
        ("path", "relative/path"),
        ("path", "/there/is/no/such/folder"),
        ("virtualenv", "relative"),
        ("extra_path", "relative"),
        ("variables", "no equals sign"),
        ("variables", "1NAME=x"),
    ],
)
def test_what_is_wrong_with_a_workspace_is_said_beside_the_field(
    field: str,
    value: str,
    browser: Client,
    tmp_path: Path,
    make_workspace: Callable[..., Workspace],
) -> None:
    make_workspace("taken")
    form = {"name": "site", "path": str(tmp_path)} | {field: value}
    answer = browser.post(f"{WORKSPACES}add/", form)
    assert answer.status_code == 200
    assert list(answer.context["adminform"].form.errors) == [field]
    assert Workspace.objects.count() == 1


def test_a_workspace_with_batches_is_not_removed(
    admin: User, browser: Client, red: Workspace, make_batch: Callable[..., Batch]
) -> None:
    make_batch(admin, 1, workspace="red")
    answer = browser.post(f"{WORKSPACES}{red.pk}/delete/", {"post": "yes"}, follow=True)
    assert "There are batches of this workspace" in answer.text
    assert Workspace.objects.exists()


def test_those_who_may_not_change_a_workspace_see_no_values_of_variables(
    viewer: User, make_workspace: Callable[..., Workspace]
) -> None:
    environment = {"virtualenv": "", "path": [], "variables": {"API_KEY": "hunter2"}}
    workspace = make_workspace("site", "red team", environment=environment)
    page = log_in(viewer).get(f"{WORKSPACES}{workspace.pk}/change/").text
    assert "API_KEY" in page
    assert "hunter2" not in page
    assert log_in(viewer).get(f"{WORKSPACES}add/").status_code == 403


def test_users_revoke_their_own_tokens_and_superusers_any(
    viewer: User, operator: User, make_user: Callable[..., User]
) -> None:
    mine, secret = AuthToken.objects.create(viewer)
    other, _ = AuthToken.objects.create(operator)
    browser = log_in(viewer)
    page = browser.get("/admin/knox/authtoken/").text
    assert mine.token_key[:8] in page
    assert other.token_key[:8] not in page
    assert mine.digest not in page
    assert secret not in page
    assert browser.get(f"/admin/knox/authtoken/{other.token_key}/revoke/").status_code == 404
    assert browser.post(f"/admin/knox/authtoken/{other.token_key}/revoke/").status_code == 404
    asked = browser.get(f"/admin/knox/authtoken/{mine.token_key}/revoke/")
    assert "Revoke token" in asked.text
    assert mine.digest not in asked.text
    assert AuthToken.objects.count() == 2
    assert browser.post(f"/admin/knox/authtoken/{mine.token_key}/revoke/").status_code == 302
    assert list(AuthToken.objects.all()) == [other]
    boss = log_in(make_user("boss", is_superuser=True))
    assert boss.post(f"/admin/knox/authtoken/{other.token_key}/revoke/").status_code == 302
    assert not AuthToken.objects.exists()


def test_tokens_are_neither_made_nor_changed_here(make_user: Callable[..., User]) -> None:
    boss = make_user("boss", is_superuser=True)
    token, _ = AuthToken.objects.create(boss)
    browser = log_in(boss)
    assert browser.get("/admin/knox/authtoken/add/").status_code == 403
    assert browser.get(f"/admin/knox/authtoken/{token.digest}/change/").status_code == 404

"""The lists of batches and tasks: bounded queries, pages by key, filters that read nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from batches.admin import markup
from batches.models import Batch, Task
from batches.states import AttemptOutcome
from batches.submission import Item

BATCHES, TASKS = "/admin/batches/batch/", "/admin/batches/task/"
HOSTILE = "<script>alert('x')</script>\u202e\u05d0\u05d1 \U0001f984" + "w" * 80


@pytest.fixture
def browser(admin: User) -> Client:
    User.objects.filter(pk=admin.pk).update(is_staff=True)
    browser = Client()
    browser.force_login(admin)
    return browser


def titles(page: str, kind: str) -> list[str]:
    """Ids of the rows in the order they are shown."""
    return re.findall(rf'<a href="/admin/batches/{kind}/([0-9a-f-]{{36}})/change/', page)


def neighbour(page: str, rel: str) -> str | None:
    found = re.search(rf'rel="{rel}" href="([^"]+)"', page)
    return found and found[1].replace("&amp;", "&")


def queries(browser: Client, address: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as ran:
        assert browser.get(address).status_code == 200
    assert not [
        query for query in ran if "COUNT(" in query["sql"] and "GROUP BY" not in query["sql"]
    ]
    assert not [query for query in ran if "DISTINCT" in query["sql"]]
    return len(ran)


def test_thirty_batches_cost_the_queries_of_three(
    admin: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    for _ in range(3):
        make_batch(admin, 2)
    few = queries(browser, BATCHES)
    for _ in range(27):
        make_batch(admin, 2)
    assert queries(browser, BATCHES) == few == 8


def test_a_page_of_tasks_costs_the_queries_of_one_task(
    admin: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    make_batch(admin, 1)
    few = queries(browser, TASKS)
    make_batch(admin, 40)
    assert queries(browser, TASKS) == few == 6


def test_the_list_reads_no_payload_result_or_error(
    admin: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    make_batch(admin, 3)
    answer = browser.get(TASKS)
    for task in answer.context["cl"].result_list:
        assert {"payload", "result", "error"} <= task.get_deferred_fields()


def test_pages_lead_to_older_and_back_to_newer_tasks(
    admin: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    make_batch(admin, 60)
    expected = [str(pk) for pk in Task.objects.order_by("-pk").values_list("pk", flat=True)]
    first = browser.get(TASKS).text
    assert titles(first, "task") == expected[:25]
    assert neighbour(first, "prev") is None
    second = browser.get(TASKS + str(neighbour(first, "next"))).text
    assert titles(second, "task") == expected[25:50]
    third = browser.get(TASKS + str(neighbour(second, "next"))).text
    assert titles(third, "task") == expected[50:]
    assert neighbour(third, "next") is None
    back = browser.get(TASKS + str(neighbour(third, "prev"))).text
    assert titles(back, "task") == expected[25:50]
    again = browser.get(TASKS + str(neighbour(back, "prev"))).text
    assert titles(again, "task") == expected[:25]
    assert neighbour(again, "prev") is None


def test_pages_keep_the_filters_and_a_filter_starts_on_the_first_page(
    admin: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(admin, 30)
    make_batch(admin, 30)
    page = browser.get(f"{TASKS}?batch={batch.pk}").text
    older = browser.get(TASKS + str(neighbour(page, "next"))).text
    assert len(titles(older, "task")) == 5
    links = re.findall(r'href="(\?[^"]*state__exact=queued[^"]*)"', older)
    assert links
    assert all("before=" not in link for link in links)


def test_batches_are_listed_newest_first_whatever_the_address_asks(
    admin: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    expected = [str(make_batch(admin, 1, name=name).pk) for name in "bac"][::-1]
    assert titles(browser.get(BATCHES).text, "batch") == expected
    assert titles(browser.get(f"{BATCHES}?o=1").text, "batch") == expected


@pytest.mark.parametrize(
    ("page", "words", "button"),
    [
        ("batch", "No batch yet.", "Submit a batch</a>"),
        ("mcpserver", "built-in one, filesystem", "Add one</a>"),
        ("resource", "Nothing is away", ""),
        ("task", "Nothing is here yet.", ""),
        ("task?state__exact=failed", "Nothing matches.", "Show everything</a>"),
        ("batch?q=nonsense", "Nothing matches.", "Show everything</a>"),
    ],
)
def test_an_empty_list_says_what_that_means(
    browser: Client, page: str, words: str, button: str
) -> None:
    answer = browser.get(f"/admin/batches/{page.replace('?', '/?')}", follow=True)
    assert words in answer.text
    assert button in answer.text
    assert "Create a new item" not in answer.text


@pytest.mark.parametrize("query", ["before=nonsense", "after=1;2", "batch=nonsense", "nothing=1"])
def test_an_address_that_makes_no_sense_leads_back_to_the_list(query: str, browser: Client) -> None:
    assert browser.get(f"{TASKS}?{query}")["Location"].endswith("?e=1")


def test_batches_are_filtered_by_what_they_are(
    admin: User, browser: Client, make_batch: Callable[..., Batch], finish: Callable[..., Any]
) -> None:
    failed = make_batch(admin, 1, name="failed")
    finish(AttemptOutcome.REJECTED)
    done = make_batch(admin, 1, name="done")
    finish(AttemptOutcome.SUCCEEDED)
    queued = make_batch(admin, 1, name="queued", queue="tests")
    for query, wanted in {
        "status=failed": [failed],
        "status=completed": [done],
        "status=queued": [queued],
        "status=cancelled": [],
        "queue=tests": [queued],
        "kind=noop": [queued, done, failed],
        "kind=sleep": [],
        "backend__exact=database": [queued, done, failed],
        "backend__exact=celery": [],
        "q=one": [done],
        f"q={done.pk}": [done],
    }.items():
        page = browser.get(f"{BATCHES}?{query.replace('q=one', 'q=ON')}").text
        assert titles(page, "batch") == [str(batch.pk) for batch in wanted], query


def test_tasks_are_filtered_by_what_they_are(
    admin: User, browser: Client, make_batch: Callable[..., Batch], finish: Callable[..., Any]
) -> None:
    batch = make_batch(admin, items=[Item(payload={}, id=name) for name in ("alpha", "beta")])
    other = make_batch(admin, items=[Item(payload={}, id="alphabet")], queue="low_priority")
    finish(AttemptOutcome.REJECTED)
    alpha, beta, alphabet = (Task.objects.get(custom_id=n) for n in ("alpha", "beta", "alphabet"))
    for query, wanted in {
        "state__exact=failed": [alpha],
        "state__exact=queued": [alphabet, beta],
        "failure__exact=rejected": [alpha],
        "failure__exact=lost": [],
        "queue=low_priority": [alphabet],
        "kind=noop": [alphabet, beta, alpha],
        "kind=sleep": [],
        f"batch={batch.pk}": [beta, alpha],
        "q=alpha": [alphabet, alpha],
        "q=lpha": [],
        f"q={beta.pk}": [beta],
        f"q={other.pk}": [alphabet],
        f"batch={batch.pk}&state__exact=failed": [alpha],
    }.items():
        page = browser.get(f"{TASKS}?{query}").text
        assert titles(page, "task") == [str(task.pk) for task in wanted], query


def test_a_filter_by_a_batch_says_which_one(
    admin: User, stranger: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(admin, 1, name="the chosen batch")
    assert "By batch" in browser.get(f"{TASKS}?batch={batch.pk}").text
    assert "By batch" not in browser.get(TASKS).text


def test_a_task_without_an_id_of_its_own_is_told_by_its_path(
    admin: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(admin, items=[Item(payload={"path": "src/app.py"})])
    page = reverse("admin:batches_task_change", args=[batch.tasks.get().pk])
    for address in (TASKS, page):
        assert "src/app.py" in browser.get(address).text.split("Payload")[0]


def test_progress_is_drawn_and_said(
    admin: User, browser: Client, make_batch: Callable[..., Batch], finish: Callable[..., Any]
) -> None:
    make_batch(admin, 4)
    finish(AttemptOutcome.SUCCEEDED, AttemptOutcome.REJECTED)
    page = browser.get(BATCHES).text
    assert 'aria-label="1 succeeded, 1 failed, 2 queued"' in page
    assert "2 of 4" in page
    assert "1 failed" in page


def test_text_of_users_is_never_markup(
    admin: User, browser: Client, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(admin, items=[Item(payload={}, id=HOSTILE)], name=HOSTILE)
    for address in (
        BATCHES,
        TASKS,
        "/admin/",
        f"{TASKS}?batch={batch.pk}",
        reverse("admin:batches_batch_change", args=[batch.pk]),
        reverse("admin:batches_batch_verb", args=[batch.pk, "cancel"]),
    ):
        page = browser.get(address).text
        assert "<script>alert" not in page, address
        assert "&lt;script&gt;alert" in page, address


def test_a_long_text_is_cut_where_it_is_listed() -> None:
    shown = markup.clipped("x" * 10_000, 60)
    assert len(shown) < 700
    assert "…" in shown


@pytest.mark.parametrize(
    ("length", "told"),
    [
        (timedelta(milliseconds=840), "840 ms"),
        (timedelta(seconds=4.24), "4.2 s"),
        (timedelta(seconds=59.6), "1 min 00 s"),
        (timedelta(minutes=3, seconds=10), "3 min 10 s"),
        (timedelta(hours=2, minutes=5), "2 h 05 min"),
        (timedelta(days=4, hours=3), "4 d 3 h"),
        (timedelta(seconds=-1), "0 ms"),
    ],
)
def test_durations_are_told_with_two_units_at_most(length: timedelta, told: str) -> None:
    assert markup.duration(length) == told


def test_times_are_told_from_now_and_exactly() -> None:
    past = markup.moment(timezone.now() - timedelta(hours=5, minutes=59))
    assert "5 h ago" in past
    assert "UTC" in past
    assert "in 1 d" in markup.moment(timezone.now() + timedelta(hours=30))
    assert markup.moment(None) == markup.NOTHING
    assert markup.took(None, None) == markup.NOTHING


def test_a_bar_of_nothing_is_empty() -> None:
    assert "no tasks" in markup.bar({})
    assert "<rect" not in markup.bar({})

"""Variants in the console: the panel of a batch, its items, and the lists narrowed to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from batches.admin import comparison
from batches.models import Artefact, Batch, Decision, Task
from batches.states import AttemptOutcome
from batches.submission import Item, Variant
from tests.batches.reviewed import with_patch

# What a page shows does not depend on the database.
pytestmark = pytest.mark.sqlite_only

BAD = "<img src=x onerror=alert(1)>"


@pytest.fixture
def browser(admin: User) -> Client:
    User.objects.filter(pk=admin.pk).update(is_staff=True)
    browser = Client()
    browser.force_login(admin)
    return browser


@pytest.fixture
def batch(admin: User, make_batch: Callable[..., Batch], finish: Callable[..., Any]) -> Batch:
    """Two items in two variants: of the first variant in line both passed."""
    two = (Variant("small", {"n": 1}), Variant(BAD))
    made = make_batch(admin, items=[Item({}, id="a"), Item({}, id="b")], variants=two)
    finish(*[AttemptOutcome.SUCCEEDED] * 4)
    made.tasks.filter(variant=BAD).update(state="failed", failure="rejected")
    return made


def page_of(batch: Batch) -> str:
    return f"/admin/batches/batch/{batch.pk}/change/"


def items_of(batch: Batch) -> str:
    return f"/admin/batches/batch/{batch.pk}/comparison/"


def test_the_page_of_a_batch_has_the_figures_of_its_variants(browser, batch):
    page = browser.get(page_of(batch)).text
    assert BAD not in page
    assert "2 of 2" in page
    assert "34% to 100%" in page
    assert "0 of 2" in page
    assert items_of(batch) in page


def test_a_large_batch_is_not_counted_again_while_it_is_watched(browser, batch, monkeypatch):
    assert "2 of 2" in browser.get(f"{page_of(batch)}?live=1").text
    monkeypatch.setattr(comparison, "LIVELY", 3)
    assert "2 of 2" not in browser.get(f"{page_of(batch)}?live=1").text
    assert "2 of 2" in browser.get(page_of(batch)).text


def test_figures_that_take_long_are_on_a_page_of_their_own(browser, batch, monkeypatch):
    monkeypatch.setattr(comparison, "SOON", 3)
    page = browser.get(page_of(batch)).text
    assert "2 of 2" not in page
    assert items_of(batch) in page
    assert "2 of 2" in browser.get(items_of(batch)).text
    assert "2 of 2" not in browser.get(f"{items_of(batch)}?after=0").text


def test_a_batch_without_variants_has_no_panel(browser, admin, make_batch):
    batch = make_batch(admin)
    assert 'data-live-part="comparison"' not in browser.get(page_of(batch)).text


def test_items_are_shown_page_by_page(browser, batch, monkeypatch):
    monkeypatch.setattr(comparison, "ITEMS", 1)
    first = browser.get(items_of(batch)).text
    assert BAD not in first
    assert 'title="a"' in first
    assert 'title="b"' not in first
    assert 'href="?after=0"' in first
    last = browser.get(f"{items_of(batch)}?after=0").text
    assert 'title="b"' in last
    assert "Next items" not in last


def test_a_winner_is_kept_from_the_page(browser, batch, admin, make_workspace, make_user):
    workspace = make_workspace("shop")
    Batch.objects.filter(pk=batch.pk).update(workspace=workspace)
    winner = with_patch(batch.tasks.get(custom_id="a", variant="small"))
    loser = with_patch(batch.tasks.get(custom_id="a", variant=BAD), failure="")
    address = f"/admin/batches/task/{winner.pk}/do/keep/"
    assert browser.get(items_of(batch)).text.count('action="/admin/batches/task/') == 2
    asked = browser.get(address).text
    assert "Keep this variant" in asked
    assert not Decision.objects.exists()
    browser.post(address, {"confirmed": "yes"})
    assert dict(Decision.objects.values_list("task", "verb")) == {
        winner.pk: "apply",
        loser.pk: "discard",
    }
    assert 'action="/admin/batches/task/' not in browser.get(items_of(batch)).text
    for artefact in Artefact.objects.all():
        artefact.file.delete(save=False)


def test_who_may_only_look_is_offered_nothing(batch, viewer, make_workspace):
    workspace = make_workspace("shop", "red team")
    Batch.objects.filter(pk=batch.pk).update(workspace=workspace)
    task = with_patch(batch.tasks.get(custom_id="a", variant="small"))
    User.objects.filter(pk=viewer.pk).update(is_staff=True)
    looking = Client()
    looking.force_login(viewer)
    page = looking.get(items_of(batch))
    assert page.status_code == 200
    assert "Keep" not in page.text
    assert "Discard" not in looking.get(f"/admin/batches/task/{task.pk}/change/").text
    for artefact in Artefact.objects.all():
        artefact.file.delete(save=False)


def test_nobody_sees_the_comparison_of_a_batch_they_may_not_see(batch, stranger):
    User.objects.filter(pk=stranger.pk).update(is_staff=True)
    looking = Client()
    looking.force_login(stranger)
    assert looking.get(items_of(batch)).status_code == 404


def test_the_list_is_narrowed_to_a_variant_of_a_batch(browser, batch):
    page = browser.get(f"/admin/batches/task/?batch={batch.pk}&variant=small").text
    shown = {str(task.pk): task.variant for task in Task.objects.all() if str(task.pk) in page}
    assert set(shown.values()) == {"small"}


def test_the_list_is_narrowed_to_what_waits_for_review(browser, batch, admin, make_batch):
    Batch.objects.filter(pk=batch.pk).update(kind="agent")
    waits = with_patch(batch.tasks.get(custom_id="a", variant="small"))
    decided = with_patch(batch.tasks.get(custom_id="b", variant="small"))
    Decision.objects.create(task=decided, attempt=decided.attempt, verb="discard", by=admin)
    undone = with_patch(batch.tasks.get(custom_id="a", variant=BAD), applied="conflict", failure="")
    failed = make_batch(admin, 1).tasks.get()
    Task.objects.filter(pk=failed.pk).update(state="failed", failure="rejected")
    Decision.objects.create(
        task=undone, attempt=undone.attempt, verb="apply", by=admin, applying=failed
    )
    page = browser.get("/admin/batches/task/?patch=waits").text
    shown = {task.pk for task in Task.objects.all() if f"/task/{task.pk}/" in page}
    assert shown == {waits.pk, undone.pk}
    for artefact in Artefact.objects.all():
        artefact.file.delete(save=False)


def test_the_page_of_a_task_leads_to_its_other_variants(browser, batch):
    task = batch.tasks.get(custom_id="a", variant="small")
    other = batch.tasks.get(custom_id="a", variant=BAD)
    page = browser.get(f"/admin/batches/task/{task.pk}/change/").text
    assert f"/admin/batches/task/{other.pk}/change/" in page
    assert BAD not in page


def test_the_page_of_a_batch_that_resumes_leads_to_the_other(browser, batch, admin, make_batch):
    items = [Item({}, id="a"), Item({}, id="c")]
    two = (Variant("small"), Variant("other"))
    again = make_batch(admin, items=items, variants=two, resume=batch.pk)
    page = browser.get(page_of(again)).text
    assert page_of(batch) in page
    assert "1 that succeeded before" in page

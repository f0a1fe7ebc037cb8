"""The browsable API: renders under the strict policy, for everybody who may see it."""

from __future__ import annotations

import re

import pytest

from batches.models import Task

# How a page looks does not depend on the database.
pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]

INLINE_SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>")
INLINE_HANDLER = re.compile(r"<[^>]+\son[a-z]+=", re.IGNORECASE)


@pytest.fixture
def browser(client_of, admin):
    client = client_of(None)
    client.force_login(admin)
    return client


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/batch", 200),
        ("/batch?status=queued&page_size=1", 200),
        ("/batch/{batch}", 200),
        ("/batch/{batch}/tasks", 200),
        ("/batch/{batch}/retry", 200),
        ("/batch/tasks", 200),
        ("/batch/tasks/{task}", 200),
        ("/batch/tasks/{task}/log", 200),
        ("/batch/tasks/{task}/cancel", 200),
        ("/batch/queues", 200),
        ("/batch/queues/tests", 200),
        ("/batch/workspaces", 200),
        ("/batch/workspaces/red", 200),
        ("/batch/stats", 200),
        ("/batch/validation", 200),
        ("/batch/tests", 200),
        ("/batch/noop", 200),
        ("/batch/nonsense", 404),
    ],
)
def test_each_address_has_a_page_without_inline_scripts(
    browser, admin, make_batch, red, address, status
):
    batch = make_batch(admin, 2, workspace="red")
    make_batch(admin, 1)
    ids = {"batch": batch.pk, "task": Task.objects.filter(batch=batch)[0].pk}
    response = browser.get(address.format(**ids), headers={"accept": "text/html"})
    page = response.content.decode()
    assert response.status_code == status, page
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = response.headers["Content-Security-Policy"].split("; ")
    assert "script-src 'self'" in policy
    assert not INLINE_SCRIPT.search(page)
    assert not INLINE_HANDLER.search(page)
    assert "Ollama Coder" in page


def test_a_submission_can_be_written_by_hand(browser):
    page = browser.get("/batch/validation", headers={"accept": "text/html"}).content.decode()
    assert "targets" in page
    assert "src" in page
    assert "Submit: validation" in page


def test_a_form_is_opened_without_an_error_by_those_who_may_send_it(browser, client_of, viewer):
    person = {"accept": "text/html"}
    for address in ("/batch/validation", "/batch/celery/validation"):
        page = browser.get(address, headers=person).content.decode()
        assert "HTTP 200 OK" in page
        assert "the form below" in page
        assert f'action="{address}" method="POST"' in page
        assert browser.get(address, headers={"accept": "application/json"}).status_code == 405
        assert browser.get(address).status_code == 405
        assert browser.put(address, headers=person).status_code == 405
    reader = client_of(None)
    reader.force_login(viewer)
    assert reader.get("/batch/validation", headers=person).status_code == 403


def test_a_change_form_shows_what_there_is(browser, admin, make_batch):
    batch = make_batch(admin, priority=7)
    page = browser.get(f"/batch/{batch.pk}", headers={"accept": "text/html"}).content.decode()
    assert "&quot;priority&quot;: 7" in page
    assert "&quot;paused&quot;: false" in page


def test_a_visitor_is_shown_where_to_log_in(client_of):
    response = client_of(None).get("/batch", headers={"accept": "text/html"})
    assert response.status_code == 401
    assert "/admin/login/?next=/batch" in response.content.decode()


def test_what_others_wrote_is_text(browser, admin, make_batch):
    make_batch(admin, name="<script>alert(1)</script>", labels=("<img src=x onerror=alert(1)>",))
    page = browser.get("/batch", headers={"accept": "text/html"}).content.decode()
    assert "<script>alert" not in page
    assert "<img src=x" not in page

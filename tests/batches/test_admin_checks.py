"""Workspaces and MCP servers are checked from their lists and from their pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from batches import operations
from batches.models import McpServer, Workspace

# What a page shows does not depend on the database.
pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]

AWAY = "http://127.0.0.1:9/mcp"


@pytest.fixture
def server(red: Workspace) -> McpServer:
    return operations.add_mcp_server("away", url=AWAY, groups=red.groups.all())


def page_of(row: McpServer | Workspace) -> str:
    return f"/admin/batches/{row._meta.model_name}/{row.pk}/change/"


def check_of(row: McpServer | Workspace) -> str:
    return page_of(row).replace("/change/", "/check/")


@pytest.fixture
def log_in() -> Callable[[User], Client]:
    def browser_of(user: User) -> Client:
        User.objects.filter(pk=user.pk).update(is_staff=True)
        browser = Client(enforce_csrf_checks=True)
        browser.force_login(user)
        return browser

    return browser_of


def pressed(browser: Client, row: McpServer | Workspace) -> Any:
    """The button on the page of the row, with the token of its form."""
    page = browser.get(page_of(row)).text
    (form,) = re.findall(rf'<form[^>]*action="{check_of(row)}".*?</form>', page, re.DOTALL)
    assert 'method="post"' in form
    (token,) = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
    return browser.post(check_of(row), {"csrfmiddlewaretoken": token}, follow=True)


def test_the_button_of_a_server_says_why_it_cannot_be_reached(
    admin: User, server: McpServer, log_in: Callable[[User], Client]
) -> None:
    answer = pressed(log_in(admin), server)
    assert answer.redirect_chain == [(page_of(server), 302)]
    assert "away cannot be reached: All connection attempts failed" in answer.text


def test_the_button_of_a_workspace_says_who_can_open_it(
    admin: User, red: Workspace, log_in: Callable[[User], Client]
) -> None:
    answer = pressed(log_in(admin), red)
    assert answer.redirect_chain == [(page_of(red), 302)]
    # It was never marked.
    assert f"machine cannot open {red.path}; 0 of 0 live workers can" in answer.text


def test_a_list_checks_those_that_were_chosen(
    admin: User, red: Workspace, server: McpServer, log_in: Callable[[User], Client]
) -> None:
    operations.add_mcp_server("other", url=AWAY)
    browser = log_in(admin)
    browser.handler.enforce_csrf_checks = False
    for row, words in ((red, "0 of 0 live workers can"), (server, "away cannot be reached")):
        chosen = {"action": "check", "_selected_action": [str(row.pk)]}
        address = page_of(row).replace(f"{row.pk}/change/", "")
        answer = browser.post(address, chosen, follow=True).text
        assert words in answer
        assert "other cannot" not in answer


def test_only_a_post_with_the_token_of_somebody_who_may_change_it_checks(
    admin: User,
    viewer: User,
    stranger: User,
    red: Workspace,
    server: McpServer,
    log_in: Callable[[User], Client],
) -> None:
    for row in (red, server):
        browser = log_in(admin)
        assert browser.get(check_of(row)).status_code == 405
        assert browser.post(check_of(row)).status_code == 403
        browser = log_in(viewer)
        assert check_of(row) not in browser.get(page_of(row)).text
        browser.handler.enforce_csrf_checks = False
        assert browser.post(check_of(row)).status_code == 403
        browser = log_in(stranger)
        browser.handler.enforce_csrf_checks = False
        assert browser.post(check_of(row)).status_code == 404
        browser = Client()
        assert browser.post(check_of(row))["Location"].startswith("/admin/login/")


def test_the_form_of_a_new_one_has_nothing_to_check(
    admin: User, log_in: Callable[[User], Client]
) -> None:
    for name in ("workspace", "mcpserver"):
        answer = log_in(admin).get(f"/admin/batches/{name}/add/")
        assert answer.status_code == 200
        assert "/check/" not in answer.text

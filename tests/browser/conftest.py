"""A real Chromium, logged in to a console that really runs; whatever goes wrong in it is told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.browser.console import Console
from tests.patience import PATIENCE
from tests.processes.installation import Installation, ended_afterwards

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def chromium() -> str:
    """The browser of this machine. Fails in CI and skips elsewhere where there is none."""
    found = [path for name in NAMES if (path := shutil.which(name))]
    if not found:
        told = "chromium is missing: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    return found[0]


# For one module, not for the session: while it runs, Django refuses to use the database.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def console(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with ended_afterwards(Installation(tmp_path_factory.mktemp("console"), "")) as made:
        made.start()
        yield Console(made)


@pytest.fixture(scope="module")
def login(browser: Browser, console: Console) -> Any:
    """What a browser keeps of one."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{console.url}/admin/")
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill(console.password)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/admin/")
        return context.storage_state()


@pytest.fixture
def page(browser: Browser, console: Console, login: Any) -> Iterator[Page]:
    """A page of a person who is logged in. The test fails where Chromium complains of anything."""
    wrong: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            wrong.append(f"{message.text} ({message.location})")

    with browser.new_context(storage_state=login, base_url=console.url) as context:
        context.set_default_timeout(PATIENCE * 1000)
        made = context.new_page()
        made.on("console", heard)
        made.on("pageerror", lambda error: wrong.append(str(error)))
        yield made
    assert not wrong

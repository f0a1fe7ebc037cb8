"""The console's pages in a real browser: they follow what the worker does, and break no rule."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, expect

from tests.browser.console import Console
from tests.processes.installation import until

pytestmark = [pytest.mark.sqlite_only, pytest.mark.long]

FAR_OFF = "2100-01-01T00:00:00Z"
PAGES = ("", "batches/batch/", "batches/batch/add/", "batches/mcpserver/add/", "batches/worker/")


def opened(page: Page, batch: str) -> list[str]:
    """Open the page of a batch, its clock standing still; returns what it asks for from then on."""
    asked: list[str] = []

    def note(request: Request) -> None:
        if "live=1" in request.url:
            asked.append(request.url)

    page.clock.install(time=0)
    page.clock.pause_at(1_000)
    page.goto(f"/admin/batches/batch/{batch}/change/")
    page.on("request", note)
    page.evaluate("window.neverReloaded = true")
    return asked


def after(page: Page, seconds: int) -> None:
    """Let the page's clock run until it has asked and was answered."""
    with page.expect_response("**live=1**"):
        page.clock.run_for(seconds * 1_000)


def test_progress_is_followed_to_the_end_and_seldom_asked_for_then(
    page: Page, console: Console, tmp_path: Path
) -> None:
    gates = [tmp_path / "first", tmp_path / "second"]
    batch = console.submit("linger", items=[{"gate": str(gate)} for gate in gates])
    asked = opened(page, batch)
    live = page.locator("[data-live]")
    expect(page.get_by_text("0 % of 2 tasks finished")).to_be_visible()
    expect(live).to_have_attribute("data-live", "on")

    gates[0].touch()
    until(lambda: console.states(batch) == ["running", "succeeded"])
    after(page, 2)
    expect(page.get_by_text("50 % of 2 tasks finished")).to_be_visible()
    gates[1].touch()
    until(lambda: console.status(batch) == "completed")
    after(page, 2)
    expect(page.get_by_text("100 % of 2 tasks finished")).to_be_visible()
    expect(page.get_by_text("Completed", exact=True)).to_be_visible()
    expect(live).to_have_attribute("data-live", "off")

    assert len(asked) == 2
    page.clock.run_for(14_000)
    after(page, 1)
    assert len(asked) == 3
    assert page.evaluate("window.neverReloaded")


def test_a_finished_batch_that_is_retried_is_followed_again(
    page: Page, console: Console, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    batch = console.submit("linger", items=[{"gate": str(gate)}], run_at=FAR_OFF)
    console.ask("DELETE", f"/batch/{batch}")
    asked = opened(page, batch)
    live = page.locator("[data-live]")
    expect(page.get_by_role("link", name="1 cancelled")).to_be_visible()
    expect(live).to_have_attribute("data-live", "off")
    console.ask("POST", f"/batch/{batch}/retry")
    until(lambda: console.states(batch) == ["running"])
    after(page, 15)
    expect(page.get_by_role("link", name="1 running")).to_be_visible()
    expect(live).to_have_attribute("data-live", "on")
    gate.touch()
    until(lambda: console.states(batch) == ["succeeded"])
    after(page, 2)
    expect(page.get_by_role("link", name="1 succeeded")).to_be_visible()
    assert len(asked) == 2


def test_a_page_that_nobody_looks_at_asks_nothing_until_it_is_shown(
    page: Page, console: Console
) -> None:
    batch = console.submit("noop", items=[{}], run_at=FAR_OFF)
    asked = opened(page, batch)
    # A browser without a window hides no page by itself.
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, writable: true})")
    page.clock.run_for(60_000)
    console.ask("DELETE", f"/batch/{batch}")
    with page.expect_response("**live=1**"):
        page.evaluate("document.hidden = false")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("link", name="1 cancelled")).to_be_visible()
    assert len(asked) == 1


def test_no_form_is_wider_than_its_window(page: Page) -> None:
    page.goto("/admin/batches/mcpserver/add/")
    expect(page.get_by_text("Chosen groups")).to_be_visible()
    for width in (390, 1024, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        edges = page.locator("#mcpserver_form *").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect().right)"
        )
        assert max(edges) <= width


def test_no_page_of_the_console_breaks_its_own_policy(page: Page, console: Console) -> None:
    batch = console.submit("noop", items=[{}], run_at=FAR_OFF)
    for address in PAGES:
        page.goto(f"/admin/{address}")
    page.goto(f"/admin/batches/task/?batch={batch}")
    page.locator(".result-list a").first.click()
    expect(page.get_by_text("How it is run")).to_be_visible()
    page.goto("/docs")
    expect(page.get_by_text("/batch/mcp-operations")).to_be_visible()

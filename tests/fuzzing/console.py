"""A console of its own, as `up` serves it, with rows of every sort."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.brokers import Redis
from tests.patience import PATIENCE
from tests.processes.installation import Installation, ended_afterwards, until

WAITING, EACH = 5, 10
"""Batches for a day that does not come, and the tasks of each: for all that ends or changes one."""


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """The address of a Redis of its own."""
    server = Redis(folder)
    try:
        yield server.url
    finally:
        server.kill()


@contextmanager
def served(folder: Path, *arguments: str) -> Iterator[tuple[str, str]]:
    """The address of an `up` with these arguments, and the token of an administrator.

    It has done what it had to do; some batches wait for the year 2100.
    """
    (folder / "redis").mkdir()
    with broker(folder / "redis") as url, ended_afterwards(Installation(folder, "")) as console:
        console.environment |= {
            # Without one the calls under /batch/celery answer 503.
            "CELERY_BROKER_URL": url,
            # As it is shipped: kinds of the tests write to any file that they are told.
            "DJANGO_SETTINGS_MODULE": "config.settings",
            # What is made up for a command must not run as whoever tests.
            "REQUIRE_SANDBOX": "true",
            "SQLITE_SYNCHRONOUS": "OFF",
        }
        console.start(*arguments)
        token = console.token
        address = f"http://127.0.0.1:{console.port}"
        shop = folder / "shop"
        (shop / "src").mkdir(parents=True)
        far = {"workspace": "shop", "run_at": "2100-01-01T00:00:00Z"}
        for place, row in (
            ("workspaces", {"name": "shop", "path": str(shop)}),
            ("mcp-servers", {"name": "nobody", "url": "http://127.0.0.1:9/mcp"}),
            ("models", {"name": "nobodys:1b", "endpoint": "http://127.0.0.1:9"}),
            *[("validation", far | {"targets": [{"path": "src"}] * EACH})] * WAITING,
        ):
            request = urllib.request.Request(
                f"{address}/batch/{place}",
                json.dumps(row).encode(),
                {"Authorization": f"Token {token}", "Content-Type": "application/json"},
            )
            urllib.request.urlopen(request, timeout=PATIENCE).close()
        until(lambda: unfinished(console, token) == WAITING * EACH)
        yield address, token


def unfinished(console: Installation, token: str) -> int:
    states = console.get(token, "/batch/stats")["totals"]["state"]
    return states["queued"] + states["running"]

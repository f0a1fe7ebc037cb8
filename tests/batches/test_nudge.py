"""Whoever submits waits for the broker a second at most, however many do."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from batches import dispatch

pytestmark = pytest.mark.either


@pytest.fixture
def takes(monkeypatch):
    """Dispatching takes so long, or until ``go`` is set."""
    go = threading.Event()
    ran: list[float] = []

    def make(seconds: float) -> threading.Event:
        def slow() -> int:
            go.wait(seconds)
            ran.append(time.monotonic())
            return 1

        monkeypatch.setattr(dispatch, "dispatch", slow)
        monkeypatch.setattr(dispatch.connection, "close", lambda: None)
        return go

    make.ran = ran  # type: ignore[attr-defined]
    yield make
    go.set()
    with dispatch._nudging:
        pass  # the thread is through


def test_several_at_once_are_all_told_of(takes):
    takes(0.02)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: dispatch.nudge(), range(5)))
    assert answers == [True] * 5
    assert len(takes.ran) == 5


def test_nobody_waits_for_a_broker_that_hangs(takes, monkeypatch):
    monkeypatch.setattr(dispatch, "NUDGE_SECONDS", 0.1)
    takes(30)
    began = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: dispatch.nudge(), range(3)))
    assert answers == [False] * 3
    assert time.monotonic() - began < 5
    assert takes.ran == []

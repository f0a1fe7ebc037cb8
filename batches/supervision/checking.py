"""Asking at once whether MCP servers can be reached, each in a slot process of its own."""

from __future__ import annotations

import math
import select
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from agents.contract import JSON, MCP_SERVERS, SERVER_RESOURCE
from batches import mcp_servers, registry
from batches.models import McpServer
from batches.supervision.slots import SlotProcess

PATIENCE = 30.0
"""Seconds, beside what the server is given to answer."""
SIDE_BY_SIDE = 4
"""Servers asked at once: each costs a process that imports the SDK."""


@dataclass(frozen=True, slots=True)
class Checked:
    """``reason`` says why not; it is written for whoever set the server up."""

    ok: bool
    reason: str
    seconds: float
    tools: int | None
    """How many it has; None where it did not answer."""

    @property
    def said(self) -> str:
        """What follows the name of the server in a sentence."""
        if not self.ok:
            return f"cannot be reached: {self.reason}"
        number = f"{self.tools} tool{'' if self.tools == 1 else 's'}"
        return f"answers with {number}, after {self.seconds:.1f} s."


def check(server: McpServer) -> Checked:
    """Open a session with a server as a task on this machine would, and ask for its tools.

    One that works in a task's folder is given an empty one.
    """
    ((_, checked),) = check_each([server])
    return checked


def check_each(
    servers: Iterable[McpServer], *, within: float = math.inf
) -> Iterator[tuple[McpServer, Checked]]:
    """Check several side by side, and give each as soon as it answered or failed to.

    It ends after ``within`` seconds: no server is given more than half of them, and none is begun
    in the second half. Those that were not begun are left out.
    """
    end_of_begins = time.monotonic() + within / 2
    waiting = deque(servers)
    with ExitStack() as cleanup:
        asked: list[_Asked] = []
        while True:
            while waiting and len(asked) < SIDE_BY_SIDE and time.monotonic() < end_of_begins:
                begun = _Asked(waiting.popleft(), within / 2)
                cleanup.callback(begun.end)
                asked.append(begun)
            if not asked:
                return
            _wait(asked)
            for one in tuple(asked):
                if checked := one.answer():
                    asked.remove(one)
                    one.end()
                    yield one.server, checked


class _Asked:
    """A server that is being asked, and the slot that asks it."""

    def __init__(self, server: McpServer, most: float) -> None:
        self.server = server
        self._began = time.monotonic()
        self.until = self._began + min(most, PATIENCE + server.connect_timeout)
        kind = next(k for k in registry.kinds().values() if k.settings_path)
        described = {MCP_SERVERS: {server.name: mcp_servers.described(server)}}
        self._folder = tempfile.TemporaryDirectory(prefix="oc-check-")
        scratch = Path(self._folder.name) / "slot"
        self.slot = SlotProcess(0, scratch, settings.PROCESSOR_SETTINGS | described)
        self.slot.probe(SERVER_RESOURCE + server.name, kind.processor_path)

    def answer(self) -> Checked | None:
        """What came of it, once that is known."""
        self.slot.flush()
        alive = self.slot.receive()
        for message in self.slot.inbox:
            if message["event"] == "probe":
                return self._told(message)
        self.slot.inbox.clear()
        if not alive:
            return self._failed("the process that should have asked it ended")
        if time.monotonic() >= self.until:
            return self._failed(f"no answer within {self.until - self._began:.0f} s")
        return None

    def _told(self, message: JSON) -> Checked:
        if not message["back"]:
            return self._failed(str(message["reason"]))
        tools = message["found"]["tools"]
        return Checked(ok=True, reason="", seconds=self._seconds(), tools=tools)

    def _failed(self, reason: str) -> Checked:
        return Checked(ok=False, reason=reason, seconds=self._seconds(), tools=None)

    def _seconds(self) -> float:
        return round(time.monotonic() - self._began, 3)

    def end(self) -> None:
        """Leave nothing of it; may be called twice."""
        if not self.slot.dead:
            self.slot.kill()
            self.slot.close()
            self._folder.cleanup()


def _wait(asked: Iterable[_Asked]) -> None:
    """Until one of the slots says something, or the time of one is up."""
    poll = select.poll()
    for one in asked:
        more = select.POLLOUT if one.slot.has_more_to_write else 0
        poll.register(one.slot.fileno(), select.POLLIN | more)
    left = min(one.until for one in asked) - time.monotonic()
    poll.poll(max(0.0, left) * 1000 + 1)

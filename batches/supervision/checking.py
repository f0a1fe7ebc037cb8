"""Asking at once whether an MCP server can be reached, in a slot process of its own."""

from __future__ import annotations

import select
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from agents.contract import MCP_SERVERS, SERVER_RESOURCE
from batches import mcp_servers, registry
from batches.models import McpServer
from batches.supervision.slots import SlotProcess

PATIENCE = 30.0
"""Seconds, beside what the server is given to answer."""


@dataclass(frozen=True, slots=True)
class Checked:
    """``reason`` says why not; it is written for whoever set the server up."""

    ok: bool
    reason: str
    seconds: float


def check(server: McpServer) -> Checked:
    """Open a session with a server as a task on this machine would, and ask for its tools.

    One that works in a task's folder is given an empty one.
    """
    began = time.monotonic()
    kind = next(k for k in registry.kinds().values() if k.settings_path)
    told = settings.PROCESSOR_SETTINGS | {MCP_SERVERS: {server.name: mcp_servers.described(server)}}
    with tempfile.TemporaryDirectory(prefix="oc-check-") as folder:
        slot = SlotProcess(0, Path(folder) / "slot", told)
        try:
            slot.probe(SERVER_RESOURCE + server.name, kind.processor_path)
            ok, reason = _answer(slot, began + PATIENCE + server.connect_timeout)
        finally:
            slot.kill()
            slot.close()
    return Checked(ok, reason, round(time.monotonic() - began, 3))


def _answer(slot: SlotProcess, until: float) -> tuple[bool, str]:
    poll = select.poll()
    poll.register(slot.fileno(), select.POLLIN)
    while (left := until - time.monotonic()) > 0:
        poll.poll(left * 1000)
        slot.flush()
        alive = slot.receive()
        while slot.inbox:
            message = slot.inbox.popleft()
            if message["event"] == "probe":
                return bool(message["back"]), str(message["reason"])
        if not alive:
            return False, "the process that should have asked it ended"
    return False, "no answer in time"

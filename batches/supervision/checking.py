"""Checking MCP servers on demand, as a task on this machine would reach them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agents.contract import MCP_SERVERS, SERVER_RESOURCE
from batches import mcp_servers
from batches.models import McpServer
from batches.supervision.asking import Question, ask_each, kind_told_by

PATIENCE = 30.0
"""Seconds, beside what the server is given to answer."""


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

    Within so many seconds, as ``ask_each`` says.
    """
    kind = kind_told_by(mcp_servers.processor_settings)
    by_resource = {SERVER_RESOURCE + server.name: server for server in servers}
    questions = (
        Question(
            resource=resource,
            kind=kind,
            settings={MCP_SERVERS: {server.name: mcp_servers.described(server)}},
            patience=PATIENCE + server.connect_timeout,
        )
        for resource, server in by_resource.items()
    )
    for question, answer in ask_each(questions, within=within):
        tools = answer.found["tools"] if answer.ok else None
        checked = Checked(answer.ok, answer.reason, answer.seconds, tools)
        yield by_resource[question.resource], checked

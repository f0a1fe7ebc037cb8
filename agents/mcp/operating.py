"""Carrying out operations on MCP servers. Imports the SDK: only slots that need it come here."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from mcp.shared.exceptions import MCPError

from agents.command_run import REFUSALS, refused, time_for_commands
from agents.contract import (
    JSON,
    Lost,
    Outcome,
    ProcessorContext,
    Rejected,
    StillAway,
    Succeeded,
    TimedOut,
    Unavailable,
)
from agents.limits import SandboxSettings
from agents.mcp.definition import SHORT_FORMS, Server, told
from agents.mcp.launching import Place, WorkspaceWanted
from agents.mcp.sessions import NoAnswer, Refused, ServerGone, Session, Sessions, Unreachable
from agents.sandbox import Sandbox, probe

PROBE_SECONDS = 15
CREDENTIALS_WANTED = {401, 403}
"""HTTP statuses that somebody must mend in the console before it makes sense to ask again."""


class Operator:
    """Keeps the sessions of one slot."""

    def __init__(self) -> None:
        self._sessions = Sessions()

    def run(self, server: Server, payload: JSON, context: ProcessorContext) -> Outcome:
        try:
            return _Operation(self._sessions, server, payload, context).outcome()
        except REFUSALS as error:
            return refused(error, payload.get("path", ""))

    def reach(self, server: Server, settings: JSON) -> int:
        """Open a session, or use an open one, and ask for the tools: how many there are.

        Raises:
            StillAway: it cannot be reached, with the reason.
        """
        try:
            place = None
            if server.transport != "http":
                sandbox = Sandbox(probe(), SandboxSettings.from_settings(settings))
                place = Place(sandbox, None, probing=True)
            return len(self._sessions.of(server, place).tools(PROBE_SECONDS, afresh=True))
        except (Unreachable, NoAnswer, Refused, ServerGone, MCPError, *REFUSALS) as error:
            raise StillAway(str(error)) from error


class _Operation:
    """One attempt at one operation."""

    def __init__(
        self, sessions: Sessions, server: Server, payload: JSON, context: ProcessorContext
    ) -> None:
        self._sessions = sessions
        self._server = server
        self._payload = payload
        self._context = context
        self._began = time.monotonic()
        self._sent = False
        self._announced = False

    def outcome(self) -> Outcome:
        try:
            return self._twice(self._place())
        except MCPError as error:
            said = {"code": error.code, "data": error.data}
            return Rejected(error.message, self._result(ok=False, error=said))
        except Refused as refused:
            return Rejected(str(refused), self._result(ok=False))
        except (WorkspaceWanted, Unreachable, NoAnswer, ServerGone) as error:
            return self._unanswered(error)

    def _twice(self, place: Place | None) -> Outcome:
        """Ask, and once more over a new session where the open one turned out to be stale.

        Not after an effect was announced and sent, unless the server said that it did nothing.
        """
        try:
            return self._asked(self._sessions.of(self._server, place))
        except Refused as refused:
            if refused.status in CREDENTIALS_WANTED:
                return Unavailable(self._server.resource, str(refused))
        except ServerGone:
            if self._announced and self._sent:
                raise
        self._sent = False
        return self._asked(self._sessions.of(self._server, place))

    def _unanswered(self, error: Exception) -> Outcome:
        name = self._server.name
        if isinstance(error, WorkspaceWanted):
            return Rejected(str(error), self._result(ok=False))
        if isinstance(error, NoAnswer) and self._sent:
            return TimedOut(f"{name}: {error}", self._result(ok=False))
        if self._sent and not isinstance(error, Unreachable):
            return Lost(f"the server {name} ended before it answered: {error}")
        return Unavailable(self._server.resource, str(error))

    def _place(self) -> Place | None:
        if self._server.transport == "http":
            return None
        settings = SandboxSettings.from_settings(self._context.settings)
        return Place(Sandbox.of_attempt(self._context, settings), self._context.workspace)

    def _asked(self, session: Session) -> Outcome:
        payload, seconds = self._payload, self._seconds()
        if payload["type"] == "list_tools":
            tools = session.tools(seconds, afresh=True).values()
            allowed = self._server.tools
            shown = [_plain(tool) for tool in tools if allowed is None or tool.name in allowed]
            return Succeeded(self._result(ok=True, tools=shown))
        if payload["type"] == "read_resource":
            self._sent = True
            read = session.ask(lambda client: client.read_resource(payload["uri"]), seconds)
            contents = [_plain(content) for content in read.contents]
            return Succeeded(self._result(ok=True, uri=payload["uri"], contents=contents))
        if payload["type"] == "tool":
            return self._called(session, payload["tool"], payload["arguments"])
        tool, names = SHORT_FORMS[payload["type"]]
        outcome = self._called(session, tool, {name: payload[name] for name in names})
        if payload["type"] == "command":
            # What it left running must not meet the next task.
            session.close()
        return _judged(outcome)

    def _called(self, session: Session, tool: str, arguments: dict[str, Any]) -> Outcome:
        allowed = self._server.tools
        if allowed is not None and tool not in allowed:
            reason = (
                f"the console does not allow the tool {tool!r} of {self._server.name}; allowed: "
                f"{', '.join(allowed) or 'none'}"
            )
            return Rejected(reason, self._result(ok=False, tool=tool))
        hints = session.tools(self._seconds()).get(tool)
        notes = hints.annotations if hints else None
        safe = notes is not None and (notes.read_only_hint or notes.idempotent_hint)
        if not (safe or self._announced):
            self._context.effect(f"{self._server.name}: {tool}"[:100])
            self._announced = True
        seconds = self._seconds()
        self._sent = True
        answer = session.ask(lambda client: client.call_tool(tool, arguments), seconds)
        content = [_plain(block) for block in answer.content]
        result = self._result(
            ok=not answer.is_error, tool=tool, content=content, structured=answer.structured_content
        )
        if answer.is_error:
            texts = [str(block["text"]) for block in content if "text" in block]
            return Rejected("\n".join(texts) or f"{tool} failed without a word", result)
        return Succeeded(result)

    def _seconds(self) -> float:
        """Time for the next question: the server's, within the attempt's."""
        left = time_for_commands(self._context)
        return min(timedelta(seconds=self._server.timeout), left).total_seconds()

    def _result(self, *, ok: bool, **more: Any) -> JSON:
        seconds = round(time.monotonic() - self._began, 4)
        return {**told(self._payload, ok=ok), **more, "seconds": seconds}


def _judged(outcome: Outcome) -> Outcome:
    """A command that failed is an answer no, though the server could give it."""
    if isinstance(outcome, Succeeded):
        told = outcome.result.get("structured") or {}
        if told.get("exit_code", 0) != 0:
            reason = f"{told['command']}: exit code {told['exit_code']}"
            return Rejected(reason, outcome.result | {"ok": False})
    return outcome


def _plain(model: Any) -> JSON:
    plain: JSON = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return plain

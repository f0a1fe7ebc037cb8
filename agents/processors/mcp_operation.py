"""One operation on an MCP server: call a tool, list its tools, read a resource."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.command_run import SANDBOX
from agents.commands import parse_command
from agents.contract import (
    BUILT_IN_SERVER,
    JSON,
    Outcome,
    PayloadError,
    ProcessorContext,
    Rejected,
    StillAway,
    Unavailable,
)
from agents.limits import SandboxSettings
from agents.mcp.definition import SHORT_FORMS, Server, find, told
from agents.paths import checked_spelling
from agents.sandbox import probe

if TYPE_CHECKING:
    from agents.mcp.operating import Operator

TYPES = ("tool", "list_tools", "read_resource", "read", "write", "list", "command")
FIELDS = {
    "tool": ("server", "tool", "arguments"),
    "list_tools": ("server",),
    "read_resource": ("server", "uri"),
    **{name: arguments for name, (_, arguments) in SHORT_FORMS.items()},
}


class OperationProcessor:
    """``{"server", "tool", "arguments"}`` calls a tool; ``"type"`` says what else there is.

    ``list_tools`` of a ``server``, ``read_resource`` with ``server`` and ``uri``, and the short
    forms ``read`` (``path``), ``write`` (``path``, ``content``), ``list`` (``path``) and
    ``command`` (``command``) of the built-in server, which works in the batch's workspace.

    Result of a call: ``{"server", "type", "tool", "ok", "content", "structured", "seconds"}``,
    ``content`` as MCP's content blocks; of the others ``tools`` or ``contents`` in their place.
    What the server refuses is ``rejected`` with its words, and ``error`` holds its code.
    """

    recycle_after = 10_000
    needs_workspace = False

    def __init__(self) -> None:
        self._operator: Operator | None = None

    def validate(self, payload: JSON, settings: JSON) -> JSON:
        kind = payload.get("type", "tool")
        if kind not in TYPES:
            raise PayloadError("type", f"must be one of: {', '.join(TYPES)}")
        for name in payload:
            if name != "type" and name not in FIELDS[kind]:
                wanted = ", ".join(FIELDS[kind])
                raise PayloadError(name, f"is not for the type {kind}, which takes: {wanted}")
        if kind in SHORT_FORMS:
            return {"type": kind, "server": BUILT_IN_SERVER, **_short_form(kind, payload, settings)}
        checked: JSON = {"type": kind, "server": _name(payload, "server", "of a server")}
        if kind == "tool":
            checked["tool"] = _name(payload, "tool", "of one of the server's tools")
            arguments = payload.get("arguments", {})
            if not isinstance(arguments, dict):
                raise PayloadError("arguments", "must be an object: the tool's arguments by name")
            checked["arguments"] = arguments
        if kind == "read_resource":
            checked["uri"] = _name(payload, "uri", "of a resource, such as file:///README.md")
        return checked

    def replay_safe(self, payload: JSON) -> bool:  # noqa: ARG002
        """Yes, until a tool that may not be repeated is about to be called: an effect then."""
        return True

    def resources(self, payload: JSON) -> list[str]:
        return [Server(payload["server"]).resource]

    def probe(self, resource: str, settings: JSON) -> bool | JSON:
        """Of a server, ``{"tools": how many it has}``."""
        if resource == SANDBOX:
            probe.cache_clear()
            return probe().kind == "bubblewrap"
        server = find(resource.partition(":")[2], settings)
        if server is None or server.name == BUILT_IN_SERVER:
            return True  # the task that waits for it will say that it is gone
        if server.problem:
            raise StillAway(server.problem)
        return {"tools": self._operating().reach(server, settings)}

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:
        server = find(payload["server"], context.settings)
        if server is None:
            return Rejected(
                f"there is no MCP server {payload['server']!r}", told(payload, ok=False)
            )
        if server.problem:
            return Unavailable(server.resource, server.problem)
        if server.name == BUILT_IN_SERVER and context.workspace is None:
            reason = f"the server {BUILT_IN_SERVER} works in a workspace: the batch must name one"
            return Rejected(reason, told(payload, ok=False))
        return self._operating().run(server, payload, context)

    def _operating(self) -> Operator:
        if self._operator is None:
            # The SDK takes a second to import: not in the web process, and on first use only.
            from agents.mcp.operating import Operator  # noqa: PLC0415

            self._operator = Operator()
        return self._operator


def _short_form(kind: str, payload: JSON, settings: JSON) -> JSON:
    if kind == "command":
        allowed = SandboxSettings.from_settings(settings).allowed_commands
        parse_command(payload.get("command"), allowed, "command")
        return {"command": payload["command"]}
    checked: JSON = {"path": checked_spelling(payload.get("path", "." if kind == "list" else None))}
    if kind == "write":
        content = payload.get("content")
        if not isinstance(content, str):
            raise PayloadError("content", "must be the text to write")
        checked["content"] = content
    return checked


def _name(payload: JSON, field: str, of_what: str) -> str:
    value = payload.get(field)
    if not isinstance(value, str) or not value.strip():
        raise PayloadError(field, f"must be the name {of_what}")
    return value

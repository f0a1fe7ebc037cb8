"""An MCP server as the console describes it to a slot. Standard library only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from agents.contract import BUILT_IN_SERVER, JSON, MCP_SERVERS, SERVER_RESOURCE

WORKSPACE = "{workspace}"
"""In a server's command, the workspace's folder."""

SHORT_FORMS = {
    "read": ("read_file", ("path",)),
    "write": ("write_file", ("path", "content")),
    "list": ("list_directory", ("path",)),
    "command": ("run_command", ("command",)),
}
"""Type → the tool of the built-in server that answers it, and its arguments."""


@dataclass(frozen=True, slots=True)
class Server:
    """What it takes to reach one server. Secrets are resolved: never log or store one whole."""

    name: str
    transport: Literal["stdio", "http"] = "stdio"
    command: tuple[str, ...] = ()
    url: str = ""
    variables: tuple[tuple[str, str], ...] = ()
    """The environment of a stdio server, beside what every sandboxed command has."""
    headers: tuple[tuple[str, str], ...] = ()
    folders: tuple[str, ...] = ()
    """Absolute folders that a stdio server may read."""
    network: bool = False
    tools: tuple[str, ...] | None = None
    """Names of the tools that tasks may call; None: all."""
    timeout: int = 60
    """Seconds for one call."""
    connect_timeout: int = 20
    problem: str = ""
    """Why it cannot be reached with what the console knows, such as a secret that is not set."""

    @property
    def resource(self) -> str:
        return SERVER_RESOURCE + self.name

    @property
    def fingerprint(self) -> str:
        """Equal for equal servers; holds their secrets."""
        return json.dumps(asdict(self))


def find(name: str, settings: JSON) -> Server | None:
    """The server of that name among the settings of a slot."""
    if name == BUILT_IN_SERVER:
        return Server(name)
    told: dict[str, Any] | None = settings.get(MCP_SERVERS, {}).get(name)
    if told is None:
        return None
    tools = told.get("tools")
    return Server(
        name=name,
        transport=told["transport"],
        command=tuple(told.get("command", ())),
        url=told.get("url", ""),
        variables=tuple(told.get("variables", {}).items()),
        headers=tuple(told.get("headers", {}).items()),
        folders=tuple(told.get("folders", ())),
        network=bool(told.get("network")),
        tools=None if tools is None else tuple(tools),
        timeout=int(told.get("timeout", 60)),
        connect_timeout=int(told.get("connect_timeout", 20)),
        problem=told.get("problem", ""),
    )


def told(payload: JSON, *, ok: bool) -> JSON:
    """What every result of an operation begins with."""
    return {
        "server": payload["server"],
        "type": payload["type"],
        **({"tool": payload["tool"]} if "tool" in payload else {}),
        "ok": ok,
    }

"""An MCP server whose tools end it before they answer; one of them may be repeated."""

import os
from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

server = MCPServer("dying")


def _noted(path: str) -> str:
    with Path(path).open("a") as file:
        file.write("called\n")
    os._exit(3)


@server.tool()
def change(path: str) -> str:
    """Say nothing of what it may be repeated for."""
    return _noted(path)


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def look(path: str) -> str:
    """May be repeated."""
    return _noted(path)


if __name__ == "__main__":
    server.run("stdio")

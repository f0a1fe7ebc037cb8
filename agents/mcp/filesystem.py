"""The built-in MCP server: files and commands of one workspace, over standard input and output.

``python -m agents.mcp.filesystem ROOT [ALLOWED COMMAND…]``, started in the sandbox. Only ``mcp``
and this package are needed; it works in any folder and knows nothing of the console.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

from agents.commands import parse_command
from agents.contract import PayloadError
from agents.paths import PathEscapes, WorkspaceMissing, checked_spelling, contained

MOST_BYTES = 8 * 1024 * 1024
"""Of a file that is read, and of a command's output that is kept."""
MOST_ENTRIES = 10_000
PROTECTED = {".git", ".ollama-coder-workspace"}
"""Nothing is written there: a hook would be a command that nobody allowed."""

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
WRITES = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)
RUNS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False)

REFUSED = (PayloadError, PathEscapes, WorkspaceMissing, OSError)


class Files:
    """The operations on one folder. Errors are told as they are: they name the path."""

    def __init__(self, root: Path, allowed: Sequence[str]) -> None:
        self._root = root
        self._allowed = allowed

    def read_file(self, path: str) -> dict[str, Any]:
        """Read a text file (UTF-8, 8 MiB at most)."""
        file = self._found(path)
        if not file.is_file():
            raise ToolError(f"{path} is not a file")
        with file.open("rb") as source:
            data = source.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ToolError(f"{path} has more than {MOST_BYTES:,} bytes")
        try:
            return {"path": path, "content": data.decode()}
        except UnicodeDecodeError:
            raise ToolError(f"{path} is not UTF-8 text") from None

    def write_file(self, path: str, content: str) -> dict[str, Any]:
        """Write a text file, in place of what was there; missing folders are made."""
        relative = Path(checked_spelling(path))
        folder = self._folder_for(relative)
        self._refuse_protected(folder / relative.name, path)
        file = folder / relative.name
        if file.is_symlink() or file.is_dir():
            raise ToolError(f"{path} is a {'link' if file.is_symlink() else 'folder'}, not a file")
        data = content.encode()
        mode = file.stat().st_mode & 0o777 if file.exists() else 0o644
        # Whole or not at all: a reader, or a task that is killed, never sees half of it.
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as fresh:
            try:
                fresh.write(data)
                fresh.flush()
                os.fchmod(fresh.fileno(), mode)
                Path(fresh.name).replace(file)
            except OSError:
                Path(fresh.name).unlink(missing_ok=True)
                raise
        return {"path": path, "bytes": len(data)}

    def list_directory(self, path: str = ".") -> dict[str, Any]:
        """List a folder: each entry with its name, type and size in bytes."""
        folder = self._found(path)
        if not folder.is_dir():
            raise ToolError(f"{path} is not a folder")
        entries = sorted(folder.iterdir())
        return {
            "path": path,
            "entries": [_entry(entry) for entry in entries[:MOST_ENTRIES]],
            "total": len(entries),
        }

    def run_command(self, command: str) -> dict[str, Any]:
        """Run a command that the console allows in the workspace's folder; no shell reads it."""
        argv = parse_command(command, self._allowed, "command")
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with tempfile.TemporaryFile() as output:
            try:
                ended = subprocess.run(  # noqa: S603 - allow-listed, in this process's sandbox
                    argv,
                    cwd=self._root,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
            except OSError as error:
                raise ToolError(f"{argv[0]} cannot be run: {error.strerror}") from error
            size = output.seek(0, os.SEEK_END)
            output.seek(max(0, size - MOST_BYTES))
            text = output.read().decode("utf-8", errors="replace")
        return {"command": command, "exit_code": ended.returncode, "output": text, "bytes": size}

    def _refuse_protected(self, real: Path, path: str) -> None:
        """``real`` is where the path leads by now: a link must not be a way around."""
        if set(real.relative_to(self._root.resolve()).parts) & PROTECTED:
            raise ToolError(f"{path} is not written: it belongs to git or to the console")

    def _found(self, path: str) -> Path:
        return contained(self._root, checked_spelling(path))

    def _folder_for(self, relative: Path) -> Path:
        """The folder of a file to be written, made where it is missing; never outside the root."""
        folder = self._root.resolve()
        for part in relative.parent.parts:
            folder = folder / part
            self._refuse_protected(folder, str(relative))
            try:
                folder.mkdir(exist_ok=True)
            except FileExistsError:
                raise ToolError(f"{relative}: {part} is not a folder of the workspace") from None
            folder = contained(self._root, str(folder.relative_to(self._root.resolve())))
        if relative.name == "":
            raise ToolError(f"{relative} is not a file")
        return folder


def _entry(entry: Path) -> dict[str, Any]:
    if entry.is_symlink():
        return {"name": entry.name, "type": "link"}
    if entry.is_dir():
        return {"name": entry.name, "type": "folder"}
    return {"name": entry.name, "type": "file", "bytes": entry.stat().st_size}


def server(root: Path, allowed: Sequence[str]) -> MCPServer[Any]:
    """The server, ready to run."""
    files = Files(root, allowed)
    made: MCPServer[Any] = MCPServer("filesystem")
    for tool, hints in (
        (files.read_file, READS),
        (files.list_directory, READS),
        (files.write_file, WRITES),
        (files.run_command, RUNS),
    ):
        made.tool(annotations=hints)(_told(tool))
    return made


def _told(tool: Any) -> Any:
    """The tool, with what goes wrong told to the caller as the answer no."""

    @functools.wraps(tool)
    def telling(*args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = tool(*args, **kwargs)
        except REFUSED as error:
            raise ToolError(str(error)) from error
        return answer

    return telling


if __name__ == "__main__":
    server(Path(sys.argv[1]), sys.argv[2:]).run("stdio")

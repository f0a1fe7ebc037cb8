"""MCP servers that nobody here wrote: two npm packages, by their exact versions."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE

PACKAGES = {
    "@modelcontextprotocol/server-filesystem": "2026.8.31",
    "@modelcontextprotocol/server-everything": "2026.8.31",
}
INSTALL_SECONDS = 55
START_SECONDS = PATIENCE


@dataclass(frozen=True)
class NpmServers:
    """Where the two are installed."""

    folder: Path

    def script(self, name: str) -> str:
        folder = self.folder / "node_modules/@modelcontextprotocol"
        return str(folder / f"server-{name}/dist/index.js")

    def filesystem(self, **more: Any) -> dict[str, Any]:
        """As a stdio server for whichever workspace the task names."""
        command = ["node", self.script("filesystem"), "{workspace}"]
        return {"transport": "stdio", "command": command, "folders": [str(self.folder)], **more}


class HttpServer:
    """``server-everything`` over streamable HTTP, to be killed and started again."""

    def __init__(self, servers: NpmServers) -> None:
        self._script = servers.script("everything")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/mcp"

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["node", self._script, "streamableHttp"],
            env={"PATH": os.environ["PATH"], "PORT": str(self._port)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            assert self.process.poll() is None, "the server ended at once"
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self._port)) == 0

    def connections(self) -> set[int]:
        """The ports that clients were or are connected from, closed ones for a minute more."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        to_us = f":{self._port:04X}"
        return {int(row[1].partition(":")[2], 16) for row in rows if row[2].endswith(to_us)}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def everything(servers: NpmServers) -> Iterator[HttpServer]:
    server = HttpServer(servers)
    try:
        yield server
    finally:
        server.kill()


def installed() -> NpmServers:
    """The servers, installed once for all processes of a test run.

    Fails in CI and skips elsewhere where there is no npm.
    """
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        told = f"{' and '.join(missing)} missing: apt-get install nodejs npm"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    versions = "-".join(sorted(set(PACKAGES.values())))
    folder = Path(tempfile.gettempdir()) / f"oc-mcp-servers-{os.getuid()}-{versions}"
    folder.mkdir(mode=0o755, exist_ok=True)
    assert folder.stat().st_uid == os.getuid(), f"{folder} belongs to somebody else"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "installed"
        if not done.exists():
            wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
            subprocess.run(
                ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", folder,
                 *wanted],
                check=True,
                timeout=INSTALL_SECONDS,
            )  # fmt: skip
            done.touch()
    return NpmServers(folder)


def servers_on(root: Path) -> list[int]:
    """Processes of the server that was started for this folder, whatever their parents are."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"node") and str(root).encode() in words:
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="session")
def npm_servers() -> NpmServers:
    return installed()

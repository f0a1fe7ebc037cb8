"""A private PostgreSQL server, to be stopped and started again."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.brokers import free_port

DEBIAN = "/usr/lib/postgresql"


class Postgres:
    """A cluster of its own, made in an empty folder, else the one that is there.

    It runs as ``postgres`` where we are root, whom the server refuses.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        port = folder / "port"
        fresh = not port.exists()
        self.port = free_port() if fresh else int(port.read_text())
        found = shutil.which("initdb")
        binaries = sorted(Path(DEBIAN).glob("*/bin"))
        assert found or binaries, "PostgreSQL is missing: apt-get install postgresql"
        self._bin = Path(found).parent if found else binaries[-1]
        if fresh:
            port.write_text(str(self.port))
            if os.geteuid() == 0:
                shutil.chown(folder, "postgres")
            self._run("initdb", "--auth", "trust", "--username", "postgres", "--no-sync")
            self.start()

    @property
    def url(self) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={self.port} -c max_connections=200 "
            f"-c unix_socket_directories={self.folder}"
        )
        log = str(self.folder / "server.log")
        self._run("pg_ctl", "--wait", "--silent", "--log", log, "--options", options, "start")

    def stop(self) -> None:
        """At once, as in a crash: it recovers from its log when it starts."""
        self._run("pg_ctl", "--wait", "--silent", "--mode", "immediate", "stop")

    def restart(self) -> None:
        self.stop()
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._bin / program), "--pgdata", str(self.folder / "data"), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            user="postgres" if os.geteuid() == 0 else None,
        )

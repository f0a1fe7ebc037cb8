"""Where a stdio server runs: in the sandbox, on the workspace or on an empty folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import agents
from agents.bubblewrap import Mounts, View
from agents.contract import BUILT_IN_SERVER, Workspace
from agents.launch import Command
from agents.mcp.definition import WORKSPACE, Server
from agents.paths import WorkspaceMissing
from agents.sandbox import Sandbox
from agents.toolchain import Toolchain, of_console, of_workspace

PACKAGE = Path(agents.__file__).resolve().parent


class WorkspaceWanted(Exception):
    """The server works in a workspace, and the task names none."""


@dataclass(frozen=True, slots=True)
class Place:
    """What holds the processes of stdio servers, and the workspace they are started for."""

    sandbox: Sandbox
    workspace: Workspace | None
    probing: bool = False
    """Nothing but a sign of life is wanted: an empty folder stands for the workspace."""

    @property
    def key(self) -> str:
        """Equal for places that may share a session."""
        return f"{self.workspace.root if self.workspace else ''} {self.probing}"

    @contextmanager
    def started(self, server: Server) -> Iterator[subprocess.Popen[bytes]]:
        """The running server; gone with all it started on leaving.

        Raises:
            CommandNotFound, EnvironmentMissing, WorkspaceMissing, WorkspaceWanted: it cannot be
                started as asked.
        """
        with self._folder() as root:
            command = self._command(server, root)
            settings = replace(
                self.sandbox.settings, network=self.sandbox.settings.network or server.network
            )
            with Sandbox(self.sandbox.held, settings).conversation(command) as process:
                yield process

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        if self.workspace is not None:
            if not self.workspace.root.is_dir():
                raise WorkspaceMissing(
                    f"the workspace's folder {self.workspace.root} is not on this machine"
                )
            yield self.workspace.root
            return
        with tempfile.TemporaryDirectory(prefix="oc-mcp-") as folder:
            root = Path(folder)
            if os.getuid() == 0:
                os.chown(root, *self.sandbox.user_for(root))
            yield root

    def _command(self, server: Server, root: Path) -> Command:
        toolchain = of_workspace(self.workspace) if self.workspace else of_console()
        view = View(root, root, writable=True)
        if server.name == BUILT_IN_SERVER:
            return _built_in(view, toolchain, self.sandbox)
        if not (self.workspace or self.probing) and any(
            WORKSPACE in word for word in server.command
        ):
            raise WorkspaceWanted(
                f"the server {server.name} works in a workspace: the batch must name one"
            )
        return Command(
            [word.replace(WORKSPACE, str(root)) for word in server.command],
            view,
            toolchain,
            mounts=Mounts(visible=[Path(folder) for folder in server.folders]),
            variables=dict(server.variables),
        )


def _built_in(view: View, toolchain: Toolchain, sandbox: Sandbox) -> Command:
    """Our own server: the console's Python and package, the workspace's programs."""
    return Command(
        [
            sys.executable, "-P", "-m", "agents.mcp.filesystem", str(view.root),
            *sandbox.settings.allowed_commands,
        ],
        view,
        toolchain,
        mounts=Mounts(visible=[*of_console().folders(), PACKAGE]),
        variables={"PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip

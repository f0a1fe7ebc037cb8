"""What to execute so that a command runs held: by bubblewrap, or by a keeper under limits alone."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from agents import bubblewrap, keeper, userns
from agents.bubblewrap import Mounts, View
from agents.limits import SandboxSettings
from agents.toolchain import Toolchain

NOTHING_MORE = Mounts()
FIRST_PROCESS = re.compile(rb'"child-pid":\s*(\d+)')
"""What bubblewrap says of the first process in its PID namespace (bwrap(1), --json-status-fd)."""


class CommandNotFound(Exception):
    """The environment has no such program; the text names both."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command. ``argv[0]`` is absolute, or a name that the toolchain finds."""

    argv: Sequence[str]
    view: View
    toolchain: Toolchain
    output: Path | None = None
    """Where standard output is kept in full."""
    merged: bool = True
    """Standard error goes into the same stream, in the order it was written."""
    mounts: Mounts = NOTHING_MORE
    variables: dict[str, str] = field(default_factory=dict)
    input: Path | None = None
    """What standard input reads; nothing by default."""
    user: tuple[int, int] | None = None
    """As whom a worker that is root runs it, instead of as the view's owner."""
    inherited: Sequence[int] = ()
    """Descriptors it holds too: a lock is then kept until all of it has ended, even if we are
    killed."""

    @property
    def environ(self) -> dict[str, str]:
        return self.toolchain.environ() | self.variables

    def located(self) -> list[str]:
        """The argument list with its program's absolute path.

        Raises:
            CommandNotFound: the toolchain does not find it.
        """
        program = self.argv[0]
        found = Path(program) if program.startswith("/") else self.toolchain.which(program)
        if found is None:
            raise CommandNotFound(
                f"{program} is not installed in {self.toolchain.name}; install it there, or name "
                "another virtualenv in the workspace's environment"
            )
        return [str(found), *self.argv[1:]]


@dataclass(frozen=True, slots=True)
class Launch:
    """What to execute, with which variables and descriptors, and how to end all of it."""

    argv: list[str]
    environ: dict[str, str]
    pass_fds: list[int]
    kill_with: signal.Signals
    status: BinaryIO

    def reached_the_command(self) -> bool:
        """Did the command itself run and end, whatever its exit code?"""
        return b'"exit-code"' in self._said()

    def is_empty_within(self, seconds: float) -> bool:
        """Wait until the last process of the command is gone; False when one stays.

        bubblewrap itself ends, or is killed, before the first process of its PID namespace, with
        which the kernel ends all others. A keeper leaves nobody.
        """
        first = FIRST_PROCESS.search(self._said())
        if first is None:
            return True
        try:
            process = os.pidfd_open(int(first[1]))
        except ProcessLookupError:
            return True
        try:
            watching = select.poll()
            watching.register(process, select.POLLIN)
            return bool(watching.poll(seconds * 1000))
        finally:
            os.close(process)

    def _said(self) -> bytes:
        self.status.seek(0)
        return self.status.read()


@contextmanager
def in_bubblewrap(
    command: Command, settings: SandboxSettings, user: tuple[int, int]
) -> Iterator[Launch]:
    """``user`` counts only where this process is root.

    Raises:
        OSError: as root, no user namespace can be made.
    """
    argv = bubblewrap.limited(command.located(), settings)
    visible = [*command.toolchain.folders(), *command.mounts.visible]
    namespaces = []
    options: list[str] = []
    if os.getuid() == 0:
        namespaces = [userns.identity_namespace()]
        options += ["--userns", str(namespaces[0]), "--cap-drop", "ALL"]
        options += [word for name in userns.CAPABILITIES for word in ("--cap-add", name)]
        argv = userns.become(*user, argv)
    else:
        options += ["--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    with (
        _memory_file("status") as status,
        _memory_file("arguments") as arguments,
        _empty_file(needed=bool(command.mounts.hidden)) as empty,
    ):
        mounts = replace(command.mounts, visible=visible)
        options += bubblewrap.options(command.view, mounts, command.environ, settings, empty)
        # Not on the command line: every user of the machine can read that, variables too.
        arguments.write(b"".join(os.fsencode(word) + b"\0" for word in options))
        arguments.seek(0)
        descriptors = ["--args", str(arguments.fileno()), "--json-status-fd", str(status.fileno())]
        yield Launch(
            argv=["bwrap", *descriptors, "--", *argv],
            environ={"PATH": os.environ.get("PATH", os.defpath)},
            pass_fds=[arguments.fileno(), status.fileno(), *namespaces, *command.inherited],
            kill_with=signal.SIGKILL,
            status=status,
        )


@contextmanager
def under_keeper(
    command: Command, settings: SandboxSettings, user: tuple[int, int]
) -> Iterator[Launch]:
    """Resource limits, an environment of its own and an end to every process; nothing is hidden.

    The command works in the view's source at its own place, with a home and TMPDIR of its own.
    """
    with _memory_file("status") as status, tempfile.TemporaryDirectory() as home:
        os.chown(home, *user)
        limits = {
            "parent": os.getpid(),
            "status": status.fileno(),
            "uid": user[0],
            "gid": user[1],
            "memory": settings.memory_bytes,
            "processes": settings.max_processes,
            "files": settings.max_open_files,
            "file_bytes": settings.max_file_bytes,
        }
        program = [sys.executable, "-I", "-S", keeper.__file__]
        yield Launch(
            argv=[*program, json.dumps(limits), str(command.view.source), "--", *command.located()],
            environ=command.environ | {"HOME": home, "TMPDIR": home},
            pass_fds=[status.fileno(), *command.inherited],
            kill_with=signal.SIGTERM,
            status=status,
        )


@contextmanager
def _empty_file(*, needed: bool) -> Iterator[Path]:
    """A file that everybody may read, for a mount; a file in memory cannot be mounted."""
    if not needed:
        yield Path(os.devnull)
        return
    with tempfile.NamedTemporaryFile(prefix="oc-empty-") as empty:
        os.fchmod(empty.fileno(), 0o444)
        yield Path(empty.name)


def _memory_file(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(name), "w+b")

"""The only place that starts a process for a task.

bubblewrap where it works, else resource limits alone, which is recorded loudly. Whatever happens,
no process of a command outlives the call that started it, nor the process that made the call.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from agents.bubblewrap import View
from agents.capture import Capture, Output
from agents.contract import ProcessorContext
from agents.launch import Command, Launch, in_bubblewrap, under_keeper
from agents.limits import SandboxSettings
from agents.process import GRACE_SECONDS, Watch, follow
from agents.toolchain import of_console

PROBE_TIMEOUT = timedelta(seconds=10)
INSTALL_HINT = "install bubblewrap 0.8 or newer (apt-get install bubblewrap)"


class SandboxUnavailable(Exception):
    """Commands cannot be held as the settings ask for; the text says what to install or change."""


class SandboxBroken(Exception):
    """The sandbox itself failed, not the command in it."""


@dataclass(frozen=True, slots=True)
class Held:
    """What holds commands on this machine, and why nothing better does."""

    kind: Literal["bubblewrap", "rlimits"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended.

    ``exit_code`` is 128 and the signal's number when a signal ended it. After a time-out or an
    overflow it was killed.
    """

    exit_code: int
    timed_out: bool
    overflowed: bool
    seconds: float
    output: Output
    errors: Output
    """Standard error; empty where it was merged into ``output``."""


class Sandbox:
    """Runs commands, one at a time, from the thread that waits for them."""

    def __init__(self, held: Held, settings: SandboxSettings) -> None:
        self.held = held
        self.settings = settings

    @classmethod
    def of_attempt(cls, context: ProcessorContext, settings: SandboxSettings) -> Sandbox:
        """Probe once per process, and tell the attempt what holds its commands.

        Raises:
            SandboxUnavailable: only resource limits hold and the settings refuse that.
        """
        held = probe()
        if held.kind != "bubblewrap":
            if settings.require_sandbox:
                raise SandboxUnavailable(f"a sandbox is required, but {held.reason}")
            context.record(
                "sandbox",
                level="warning",
                sandbox=held.kind,
                message=f"Commands are NOT isolated: {held.reason}. Only resource limits hold: "
                "commands can read and write what their user can, and use the network.",
            )
        context.contained_by(held.kind)
        return cls(held, settings)

    def user_for(self, folder: Path) -> tuple[int, int]:
        """The user and group that commands on this folder run as.

        A worker that is root steps down to the folder's owner, or where that is root too, to the
        configured user.
        """
        if os.getuid() != 0:
            return os.getuid(), os.getgid()
        owner = folder.stat()
        if owner.st_uid != 0:
            return owner.st_uid, owner.st_gid
        return self.settings.run_as_uid, self.settings.run_as_uid

    def run(
        self, command: Command, timeout: timedelta, watch: Watch = lambda _output: None
    ) -> Finished:
        """Run to the end, the time limit or the output limit.

        ``watch`` is called with the output so far about four times a second. Every process of the
        command is gone on return, and also when ``watch`` raises.

        Raises:
            CommandNotFound: the environment has no such program.
            SandboxBroken: the command was never started.
        """
        begun = time.monotonic()
        bounds = self.settings.shown_output_bytes, self.settings.max_output_bytes
        launcher = in_bubblewrap if self.held.kind == "bubblewrap" else under_keeper
        user = command.user or self.user_for(command.view.source)
        with (
            launcher(command, self.settings, user) as launch,
            Path(command.input or os.devnull).open("rb") as given,
            Capture(*bounds, command.output) as output,
            Capture(*bounds) as errors,
        ):
            until = begun + timeout.total_seconds()
            child = _start(launch, merged=command.merged, stdin=given.fileno())
            try:
                ended = follow(child, until, (output, errors), watch, launch.kill_with)
            finally:
                _wait_for_the_last(launch)
            if not (ended.killed or launch.reached_the_command()):
                heard = (output if command.merged else errors).output().text.strip()
                raise SandboxBroken(f"the command was not started: {heard}{_advice(self.held)}")
            return Finished(
                exit_code=ended.exit_code,
                timed_out=ended.timed_out,
                overflowed=output.overflowed or errors.overflowed,
                seconds=time.monotonic() - begun,
                output=output.output(),
                errors=errors.output(),
            )

    @contextmanager
    def conversation(self, command: Command) -> Iterator[subprocess.Popen[bytes]]:
        """A command that is spoken to through its pipes, and ended on leaving.

        It lives as long as the thread that entered, at most. Its output is the caller's to read.

        Raises:
            CommandNotFound: the environment has no such program.
        """
        launcher = in_bubblewrap if self.held.kind == "bubblewrap" else under_keeper
        user = command.user or self.user_for(command.view.source)
        with launcher(command, self.settings, user) as launch:
            child = _start(launch, merged=False, stdin=subprocess.PIPE)
            try:
                yield child
            finally:
                _end(child, launch)


def _start(
    launch: Launch, *, merged: bool, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - held, and allow-listed by the caller
        launch.argv,
        cwd="/",
        env=launch.environ,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        pass_fds=launch.pass_fds,
    )


def _end(child: subprocess.Popen[bytes], launch: Launch) -> None:
    """Kill it, and wait until it and all it started are gone."""
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    child.send_signal(launch.kill_with)
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    _wait_for_the_last(launch)


def _wait_for_the_last(launch: Launch) -> None:
    if not launch.is_empty_within(GRACE_SECONDS):
        raise SandboxBroken("processes of the command are still there, though they were killed")


def _advice(held: Held) -> str:
    if held.kind == "rlimits" and os.getuid() == 0:
        return " (the worker is root and steps down for commands: start it as an unprivileged user)"
    return ""


@functools.cache
def probe() -> Held:
    """What holds commands here, found by running one; asked once per process."""
    if sys.platform != "linux" or shutil.which("bwrap") is None:
        return Held("rlimits", f"bubblewrap is not installed: {INSTALL_HINT}")
    with tempfile.TemporaryDirectory() as folder:
        view = View(Path(folder), Path(folder), writable=False)
        command = Command(["/usr/bin/true"], view, of_console())
        try:
            finished = Sandbox(Held("bubblewrap"), SandboxSettings()).run(command, PROBE_TIMEOUT)
        except (SandboxBroken, OSError) as error:
            return Held(
                "rlimits",
                f"bubblewrap does not work here ({error}): {INSTALL_HINT}, and let the worker make "
                "user namespaces (sysctl kernel.unprivileged_userns_clone, or the container's "
                "seccomp and AppArmor profile)",
            )
    if finished.exit_code != 0:
        return Held("rlimits", f"bubblewrap does not work here: {finished.output.text.strip()}")
    return Held("bubblewrap")

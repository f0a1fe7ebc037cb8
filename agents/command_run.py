"""What every processor that runs commands shares: the ground to run on, time, output, refusals."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from agents.capture import Capture
from agents.contract import (
    JSON,
    LimitReached,
    Outcome,
    ProcessorContext,
    Rejected,
    TimedOut,
    TryAgain,
    Unavailable,
    Workspace,
)
from agents.launch import Command, CommandNotFound
from agents.limits import SandboxSettings
from agents.paths import PathEscapes, WorkspaceMissing, contained
from agents.process import Watch
from agents.sandbox import Finished, Sandbox, SandboxBroken, SandboxUnavailable
from agents.toolchain import EnvironmentMissing, Toolchain, of_workspace

SANDBOX = "sandbox"
"""The resource that is away where a sandbox is required and none works."""
RESERVE = timedelta(seconds=2)
"""Kept back from the time limit, to report what was found before it."""
LOG_SECONDS = 0.5
"""At most one line of live log in this time."""


class DiskNearlyFull(Exception):
    """What the command writes would leave the machine without space."""


REFUSALS = (
    CommandNotFound,
    DiskNearlyFull,
    EnvironmentMissing,
    FileNotFoundError,
    PathEscapes,
    SandboxBroken,
    SandboxUnavailable,
    WorkspaceMissing,
)


@dataclass(frozen=True, slots=True)
class Ground:
    """What an attempt's commands run on."""

    workspace: Workspace
    target: Path
    """Where the payload's path really leads, inside the workspace."""
    toolchain: Toolchain
    sandbox: Sandbox

    @classmethod
    def of_attempt(cls, path: str, context: ProcessorContext) -> Ground:
        """Look at the workspace as it is now.

        Raises:
            one of ``REFUSALS``; ``refused`` turns it into the attempt's outcome.
        """
        workspace = context.workspace
        if workspace is None:
            raise FileNotFoundError("the task names no workspace")
        target = contained(workspace.root, path)
        if not (target.is_file() or target.is_dir()):
            raise FileNotFoundError(f"{path} is neither a file nor a folder")
        settings = SandboxSettings.from_settings(context.settings)
        sandbox = Sandbox.of_attempt(context, settings)
        return cls(workspace, target, of_workspace(workspace), sandbox)


def refused(error: Exception, path: str) -> Outcome:
    """The outcome of an attempt that could not begin."""
    if isinstance(error, SandboxUnavailable):
        return Unavailable(SANDBOX, str(error))
    if isinstance(error, DiskNearlyFull):
        return LimitReached("disk", str(error), {"path": path, "ok": False})
    if isinstance(error, (SandboxBroken, WorkspaceMissing)):
        return TryAgain(str(error))
    return Rejected(str(error), {"path": path, "ok": False})


def time_for_commands(context: ProcessorContext) -> timedelta:
    """The time commands may take, a little less than the attempt's own."""
    remaining = context.remaining()
    return max(timedelta(0), remaining - min(RESERVE, remaining / 5))


def run_command(
    ground: Ground,
    command: Command,
    context: ProcessorContext,
    watch: Watch | None = None,
) -> tuple[Finished, JSON]:
    """Run the command, its output watched live, and kept in full where it is long.

    Returns how it ended, and ``{"exit_code", "output", "seconds"}`` for the attempt's result.
    """
    spool = context.workdir / "output.txt"
    finished = ground.sandbox.run(
        replace(command, output=spool),
        time_for_commands(context),
        guarding_the_disk(context, ground.sandbox.settings, watch or _log_of_output(context)),
    )
    if finished.output.truncated:
        shutil.move(spool, context.artefact("output.txt", "text/plain; charset=utf-8"))
    return finished, {
        "exit_code": finished.exit_code,
        "output": finished.output.as_json(),
        "seconds": round(finished.seconds, 3),
    }


def cut_short(finished: Finished, result: JSON) -> Outcome | None:
    """The outcome of a command that was stopped before its end."""
    if finished.timed_out:
        return TimedOut(f"stopped after {finished.seconds:.0f} s, before its end", result)
    if finished.overflowed:
        size = finished.output.size
        return LimitReached("output", f"stopped after printing {size:,} bytes", result)
    return None


def end_of(finished: Finished) -> str:
    """How a command that failed ended, in words."""
    if finished.exit_code > 128:
        return f"killed by signal {finished.exit_code - 128}"
    return f"exit code {finished.exit_code}"


def guarding_the_disk(context: ProcessorContext, settings: SandboxSettings, watch: Watch) -> Watch:
    """Also look at the free space, which the console's own data needs as well."""
    folder = context.workdir

    def watching(output: Capture) -> None:
        free = shutil.disk_usage(folder).free
        if free < settings.min_free_bytes:
            raise DiskNearlyFull(f"stopped: only {free:,} bytes were left on the disk of {folder}")
        watch(output)

    return watching


def _log_of_output(context: ProcessorContext) -> Watch:
    shown = ""
    at = time.monotonic()

    def watch(output: Capture) -> None:
        nonlocal shown, at
        line = output.latest_line()
        if line and line != shown and time.monotonic() - at >= LOG_SECONDS:
            shown, at = line, time.monotonic()
            context.record("output", line=line[:1000])

    return watch

"""The only place that runs git: in the sandbox, with nothing of a user's or a repository's own
configuration that could run a program (hooks, file system monitors, filters, pagers).
"""

from __future__ import annotations

import os
import secrets
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from agents.bubblewrap import Mounts, View
from agents.command_run import time_for_commands
from agents.contract import ProcessorContext
from agents.launch import Command, CommandNotFound
from agents.sandbox import Finished, Sandbox
from agents.toolchain import of_console

SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.quotePath=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.allow=never",
    # Under a limit of address space, packs are read through small windows.
    "core.packedGitWindowSize=32m",
    "core.packedGitLimit=512m",
)
VARIABLES = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_COMMITTER_NAME": "Ollama Coder",
    "GIT_COMMITTER_EMAIL": "ollama-coder@localhost",
    "LC_ALL": "C",
}
LONGEST_ERROR = 1000


class RepositoryRefused(Exception):
    """The workspace cannot be copied for an attempt; the text says what would help."""


class GitFailed(Exception):
    """git ended otherwise than expected; the text holds what it said."""


class ChangeRefused(Exception):
    """What was changed in the copy cannot be kept as a patch; the text says which file."""


class StartConflict(Exception):
    """The patches of the task's predecessors do not fit together, or not on the base commit.

    ``conflicts`` are ``{"path", "reason", "hunks"}``.
    """

    def __init__(self, message: str, conflicts: list[dict[str, str]]) -> None:
        super().__init__(message)
        self.conflicts = conflicts


@dataclass(frozen=True, slots=True)
class Git:
    """git as one user, in one view."""

    sandbox: Sandbox
    scratch: Path
    """Where its input and output are spooled; not shown to it."""
    remaining: Callable[[], timedelta]
    view: View
    mounts: Mounts = field(default_factory=Mounts)
    user: tuple[int, int] | None = None
    settings: Sequence[str] = ()
    """More ``name=value``, which win over the repository's own."""
    inherited: Sequence[int] = ()

    @classmethod
    def of_attempt(cls, context: ProcessorContext, sandbox: Sandbox, view: View) -> Git:
        return cls(sandbox, context.workdir, lambda: time_for_commands(context), view)

    def run(
        self,
        *arguments: str,
        given: bytes = b"",
        variables: Mapping[str, str] | None = None,
        fine: Sequence[int] = (0,),
    ) -> bytes:
        """Standard output, in full.

        Raises:
            GitFailed: the exit code is not a ``fine`` one, or no time was left.
            RepositoryRefused: git is not installed.
        """
        return self.ended(*arguments, given=given, variables=variables, fine=fine)[1]

    def ended(
        self,
        *arguments: str,
        given: bytes = b"",
        variables: Mapping[str, str] | None = None,
        fine: Sequence[int] | None = None,
    ) -> tuple[int, bytes]:
        """Exit code and standard output; any exit code is fine unless some are named."""
        finished, output = self._spooled(self._argv(arguments), given, variables)
        if _cut_short(finished) or (fine is not None and finished.exit_code not in fine):
            raise GitFailed(f"git {arguments[0]}: {_said(finished)}")
        return finished.exit_code, output

    def one_after_the_other(
        self,
        *commands: Sequence[str],
        given: bytes = b"",
        variables: Mapping[str, str] | None = None,
    ) -> list[bytes]:
        """The output of each, all of them run in one sandbox.

        To make one takes longer than most of them take. One at most may read what is given.

        Raises:
            GitFailed: one did not end with 0, and those after it were not run.
        """
        end = secrets.token_hex(16)
        calls = (f'"$0" "$@" {shlex.join(words)}' for words in commands)
        argv = ["/bin/sh", "-c", f" && printf {end} && ".join(calls), *self._argv(())]
        finished, output = self._spooled(argv, given, variables)
        outputs = output.split(end.encode())
        if _cut_short(finished) or finished.exit_code != 0:
            raise GitFailed(f"git {commands[len(outputs) - 1][0]}: {_said(finished)}")
        return outputs

    def _argv(self, arguments: Sequence[str]) -> list[str]:
        options = [word for setting in (*SETTINGS, *self.settings) for word in ("-c", setting)]
        return ["git", "--no-pager", *options, *arguments]

    def _spooled(
        self, argv: list[str], given: bytes, variables: Mapping[str, str] | None
    ) -> tuple[Finished, bytes]:
        """How it ended, and all that it wrote to standard output."""
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="git-") as spool:
            source, target = Path(spool, "input"), Path(spool, "output")
            source.write_bytes(given)
            command = Command(
                argv,
                self.view,
                of_console(),
                output=target,
                merged=False,
                mounts=self.mounts,
                variables={**VARIABLES, **(variables or {})},
                input=source,
                user=self.user,
                inherited=self.inherited,
            )
            try:
                return self.sandbox.run(command, self.remaining()), target.read_bytes()
            except CommandNotFound:
                raise RepositoryRefused(
                    "git is not installed on this machine: install it (apt-get install git)"
                ) from None


def _cut_short(finished: Finished) -> bool:
    return finished.timed_out or finished.overflowed


def _said(finished: Finished) -> str:
    if finished.timed_out:
        return f"no answer within {finished.seconds:.0f} s"
    if finished.overflowed:
        return f"more than {finished.output.size:,} bytes of output"
    said = finished.errors.text.strip() or finished.output.text.strip()
    return (said or f"exit code {finished.exit_code}")[:LONGEST_ERROR]

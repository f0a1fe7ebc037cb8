"""Which commands of a model are run, and how: the fence before the wall, which is the sandbox.

The fence says no in words, so that a model can do something else and a person can count what it
tried. What it lets through is held by the sandbox all the same.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath

from agents.coding.enclosure import Enclosure
from agents.coding.reaching import PROTECTED
from agents.coding.refusals import Blocked, ToolRefused
from agents.commands import parse_command
from agents.contract import PayloadError
from agents.launch import CommandNotFound
from agents.toolchain import HOME, TMPDIR

TIME = timedelta(seconds=120)
SHOWN = 8000
"""Characters of a command's output that a model is shown."""
DESTRUCTIVE = {
    "rm", "rmdir", "unlink", "shred", "truncate", "dd", "mkfs", "fdisk", "wipefs",
    "mount", "umount", "chown", "chmod", "chattr", "chroot", "mknod",
    "sudo", "su", "doas", "pkexec", "setpriv", "unshare", "nsenter", "bwrap",
    "kill", "pkill", "killall", "shutdown", "reboot", "halt", "poweroff", "systemctl", "crontab",
    "docker", "podman", "kubectl",
    "curl", "wget", "ssh", "scp", "sftp", "rsync", "nc", "ncat", "socat", "telnet", "ftp",
}  # fmt: skip
"""Never run, whatever is allowed: they destroy, leave the sandbox or speak to other machines."""
WRAPPERS = {"env", "nice", "nohup", "time", "timeout", "xargs", "stdbuf", "setsid", "exec"}
SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "fish"}
READING_GIT = {
    "status", "diff", "log", "show", "blame", "ls-files", "ls-tree", "grep", "rev-parse",
    "describe", "shortlog", "cat-file",
}  # fmt: skip
SHELL_WORDS = {"&&", "||", "|", ";", "&", ">", ">>", "<", "<<", "2>&1", "2>", "&>"}
SEPARATORS = re.compile(r"&&|\|\||[;|&\n]")
GLUED = re.compile(r"-[A-Za-z](?=[/~.])")
"""A short option that its value follows at once, as in ``-I/usr/include``."""
OPEN_PLACES = (HOME, TMPDIR, "/dev/null", "/dev/stdout", "/dev/stderr")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command of a model ended."""

    argv: list[str]
    exit_code: int
    output: str
    seconds: float
    stopped: str = ""
    """Why it was stopped before its end."""

    @property
    def text(self) -> str:
        """What the model is told."""
        end = f"stopped: {self.stopped}" if self.stopped else f"exit code {self.exit_code}"
        return f"{end}, after {self.seconds:.1f} s\n{trimmed(self.output, SHOWN)}".rstrip()


class Commands:
    """``run_command`` of one attempt. ``blocked`` counts what the guardrail stopped.

    A command has ``time``, and no more than ``left`` says is left when it begins.
    """

    def __init__(
        self,
        enclosure: Enclosure,
        time: timedelta = TIME,
        left: Callable[[], timedelta] = lambda: timedelta.max,
    ) -> None:
        self.blocked = 0
        self._enclosure = enclosure
        self._time = time
        self._left = left

    def run_command(self, command: str) -> str:
        """Run one command in the project's folder, such as ``pytest -q tests/test_app.py``.

        No shell reads it: no pipes, no ``&&``, no redirection, no ``cd``. There is no network.
        """
        return self.run(command).text

    def run(self, command: str) -> Ran:
        """
        Raises:
            ToolRefused: it was not run.
        """
        enclosure = self._enclosure
        try:
            argv = self.checked(command)
            finished = enclosure.run(argv, min(self._time, self._left()))
        except Blocked:
            with enclosure.lock:
                self.blocked += 1
            raise
        except CommandNotFound as error:
            raise ToolRefused(str(error)) from None
        stopped = ""
        if finished.timed_out:
            stopped = "it did not end in time"
        elif finished.overflowed:
            stopped = f"it printed more than {enclosure.settings.max_output_bytes:,} bytes"
        return Ran(argv, finished.exit_code, finished.output.text, finished.seconds, stopped)

    def checked(self, command: str) -> list[str]:
        """The argument list of a command that may be run.

        Raises:
            Blocked: it is not allowed, is destructive or reaches out of the copy.
            ToolRefused: it is written for a shell.
        """
        _refuse_destructive(command)
        allowed = self._enclosure.settings.allowed_commands
        try:
            argv = parse_command(command, allowed, "command")
        except PayloadError as error:
            raise Blocked(error.message) from None
        if shell := next((word for word in argv if word in SHELL_WORDS), None):
            raise ToolRefused(f"no shell reads the command, so {shell} means nothing: run one "
                              "command at a time, its whole output is shown")  # fmt: skip
        for word in argv[1:]:
            for path in _paths_in(word):
                self._refuse_outside(path)
        return argv

    def _refuse_outside(self, path: str) -> None:
        if path.startswith("~"):
            raise Blocked(f"{path} is outside the project")
        root = self._enclosure.root
        there = Path(os.path.normpath(root / path))
        if not there.is_relative_to(root):
            if any(there.is_relative_to(place) and not root.is_relative_to(place)
                   for place in OPEN_PLACES):  # fmt: skip
                return
            raise Blocked(f"{path} is outside the project")
        inside = PurePosixPath(there.relative_to(root))
        if set(inside.parts) & PROTECTED:
            raise Blocked(f"{path} is out of bounds: it belongs to git or to the console")
        is_there = os.path.lexists(self._enclosure.folder / inside)
        if is_there and self._enclosure.secrets.match(str(inside)):
            raise Blocked(f"{path} holds secrets: it is neither read nor written")


def trimmed(text: str, most: int) -> str:
    """The text with its middle left out; more is kept of the end, where tools sum up."""
    if len(text) <= most:
        return text
    head = most // 4
    left_out = len(text) - most
    return f"{text[:head]}\n[… {left_out} characters left out …]\n{text[head + left_out :]}"


def _refuse_destructive(command: str) -> None:
    """Also behind a shell's separators: that no shell reads them makes no such wish harmless."""
    for part in SEPARATORS.split(command):
        try:
            words = shlex.split(part)
        except ValueError:
            words = part.split()
        _refuse_program(words, command)


def _refuse_program(words: Sequence[str], command: str) -> None:
    rest = [word for word in words if "=" not in word or word.startswith("-")]
    if not rest:
        return
    program = PurePosixPath(rest[0]).name
    if program in WRAPPERS:
        named = [word for word in rest[1:] if PurePosixPath(word).name in DESTRUCTIVE | SHELLS]
        _refuse_program(named, command)
    elif program in DESTRUCTIVE or program.startswith("mkfs."):
        raise Blocked(f"{program} is never run: it destroys, or reaches out of the sandbox")
    elif program in SHELLS and any(word.startswith("-") and "c" in word for word in rest[1:]):
        raise Blocked(f"{program} -c is never run: name the command itself")
    elif program == "git" and (len(rest) < 2 or rest[1] not in READING_GIT):
        raise Blocked(f"of git only these are run: {', '.join(sorted(READING_GIT))}")
    elif program == "find" and {"-delete", "-exec", "-execdir", "-ok"} & set(rest):
        raise Blocked("find is not run with -delete or -exec")


def _paths_in(word: str) -> Iterator[str]:
    """What of an argument may name a path: the whole, and what follows an option or a ``=``."""
    for value in {word, word.partition("=")[2], GLUED.sub("", word, count=1)}:
        path = value.removeprefix("@").removeprefix("file://").partition("::")[0]
        if path and not path.startswith("-"):
            yield path

"""Runs one command under resource limits and leaves none of its processes behind.

A program of its own (``python -I -S keeper.py LIMITS FOLDER -- COMMAND``), for machines without a
working bubblewrap: it adopts every orphan of the command, so a double fork does not escape it, and
it ends with its parent. Standard library only; it must start in milliseconds.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38


class Stopped(BaseException):
    """Somebody asked the keeper to end the command."""


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _children() -> list[int]:
    """Processes whose parent this is, adopted ones included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            # The name in parentheses may hold spaces; the parent's id is the second word after it.
            if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(entry.name))
    return found


def _sweep() -> None:
    """Kill until there is nobody left: each death hands its children over to this process."""
    while True:
        for child in _children():
            os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _tasks_of(uid: int) -> int:
    """Processes and threads of a user: RLIMIT_NPROC counts all of them, not only the command's."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        values = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        if int(values["Uid"].split()[0]) == uid:
            total += int(values["Threads"])
    return total


def _confine(limits: dict[str, int]) -> None:
    uid = limits["uid"]
    processes = limits["processes"] + _tasks_of(uid)
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(limits["gid"], limits["gid"], limits["gid"])
        os.setresuid(uid, uid, uid)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    # After the change of user, which clears it.
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for kind, value in (
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_NOFILE, limits["files"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound))


def _run(command: list[str], folder: str, limits: dict[str, int]) -> None:
    """Become the command; this is the child's side of the fork."""
    try:
        os.setsid()
        _confine(limits)
        for number in (signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(folder)
        os.set_inheritable(limits["status"], False)
        os.execv(command[0], command)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]} in {folder} as uid {os.getuid()}: {error}\n")
        sys.stderr.flush()
        os.write(limits["status"], b"failed")
    os._exit(126)


def _wait_for(child: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main(arguments: list[str]) -> int:
    """Exit code: the command's, 128 and the signal's number when it was killed, 143 if stopped."""
    limits: dict[str, int] = json.loads(arguments[0])
    command = arguments[arguments.index("--") + 1 :]

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != limits["parent"]:
        return 128 + signal.SIGTERM
    code = 128 + signal.SIGTERM
    try:
        child = os.fork()
        if child == 0:
            _run(command, arguments[1], limits)
        code = _wait_for(child)
        # As bubblewrap says it: without an exit code the command was never reached.
        if os.fstat(limits["status"]).st_size == 0:
            os.write(limits["status"], json.dumps({"exit-code": code}).encode())
    except Stopped:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _sweep()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A user namespace for a worker that runs as root, so that its commands do not.

As root, bubblewrap's own namespace would map the command to root itself, whom RLIMIT_NPROC does
not bind and who owns every file. In this one each id is itself: bubblewrap mounts with root's
rights over files but none over the machine, then the command becomes an unprivileged user.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CLONE_NEWUSER = 0x10000000
EVERY_ID = "0 0 4294967295"
READ_EVERYTHING = "-all,+dac_read_search"
CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_DAC_READ_SEARCH")
"""What ``become`` needs from bubblewrap. Each counts inside the namespace only."""


@functools.cache
def identity_namespace() -> int:
    """A file descriptor of the namespace, made once per process.

    No further user namespace can be made inside it (user_namespaces(7), max_user_namespaces).

    Raises:
        OSError: the kernel or a container's policy does not allow it.
    """
    # This file as a program: only a process of one thread can enter a new user namespace.
    with subprocess.Popen(  # noqa: S603 - this very file
        [sys.executable, "-I", "-S", __file__],
        env={},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as helper:
        assert helper.stdin is not None  # noqa: S101 - PIPE was asked for
        assert helper.stdout is not None  # noqa: S101
        if helper.stdout.readline() != "made\n":
            raise OSError("the kernel does not let root make a user namespace")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{helper.pid}/{name}").write_text(EVERY_ID, encoding="ascii")
        helper.stdin.write("mapped\n")
        helper.stdin.flush()
        if helper.stdout.readline() != "closed\n":
            raise OSError("the user namespace could not be closed to further ones")
        return os.open(f"/proc/{helper.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)


def _inhabit() -> None:
    """The helper: a namespace lives while a process or a descriptor holds it."""
    if ctypes.CDLL(None).unshare(CLONE_NEWUSER) != 0:
        return
    sys.stdout.write("made\n")
    sys.stdout.flush()
    sys.stdin.readline()
    Path("/proc/sys/user/max_user_namespaces").write_text("0", encoding="ascii")
    sys.stdout.write("closed\n")
    sys.stdout.flush()
    sys.stdin.read()


def become(uid: int, gid: int, command: Sequence[str]) -> list[str]:
    """Run the command as this user, inside the sandbox.

    It keeps one capability, to read what root alone may: a workspace of mode 0700 is then usable,
    and nothing but what was mounted on purpose is there to be read.
    """
    return [
        "/usr/bin/setpriv",
        f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs",
        f"--inh-caps={READ_EVERYTHING}", f"--ambient-caps={READ_EVERYTHING}",
        "--bounding-set=-all",
        "--",
        *command,
    ]  # fmt: skip


if __name__ == "__main__":
    _inhabit()

"""Replaces itself with a command that ends when its parent does, however the parent ends.

Run as a script by ``processes``: the standard library only, because it runs before every start.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # prctl(2); kept across execve


def main() -> None:
    parent, parting, *command = sys.argv[1:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(parting)) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != int(parent):
        raise SystemExit("The parent ended before its child began.")
    os.execv(command[0], command)  # noqa: S606 (what it is for)


if __name__ == "__main__":
    main()

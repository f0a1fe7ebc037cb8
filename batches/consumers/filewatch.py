"""Being told by the kernel that a file was written to: inotify(7), Linux only."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Self

IN_MODIFY = 0x2
IN_NONBLOCK, IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC


class FolderWatch:
    """Tells when any file directly in a folder was written to, by whatever process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def over(cls, folder: Path) -> Self | None:
        """None where the system has no such thing, or has no watch left for us."""
        if sys.platform != "linux":
            return None
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        if descriptor < 0:
            return None
        if libc.inotify_add_watch(descriptor, os.fsencode(folder), IN_MODIFY) < 0:
            os.close(descriptor)
            return None
        return cls(descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def changed(self) -> bool:
        """Was anything written since the last call?"""
        try:
            # What was written does not matter; what does not fit is read the next time.
            return bool(os.read(self._descriptor, 1 << 16))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._descriptor)

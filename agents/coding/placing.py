"""Files of a workspace, read and replaced one at a time and whole. No link is followed: whoever
owns the workspace may put one anywhere, and we may be root.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from agents.private_copy import OPEN_FOLDER, OPEN_SOURCE

UNFINISHED = ".ollama-coder-unfinished"
"""What a file is called before it is whole; one in a folder at a time."""


class NotPlain(Exception):
    """The path is not a plain file in plain folders; the text says what it is."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it is now."""

    content: bytes
    mode: int
    """Permission bits."""

    @property
    def sha256(self) -> str:
        return sha256(self.content)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Place:
    """A workspace's folder. Paths are relative to it, with ``/``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def found(self, path: str) -> Found | None:
        """The file, or None where there is none.

        Raises:
            NotPlain: something else has its name, or the name of a folder above it.
        """
        try:
            with self._parent(path) as parent:
                return _read(PurePosixPath(path).name, parent)
        except FileNotFoundError:
            return None

    def refuse_if_closed(self, path: str) -> None:
        """Look before the first byte is written.

        Raises:
            PermissionError: its folder, or the nearest one there is, cannot be written to.
        """
        folder = PurePosixPath(path).parent
        while not (self._root / folder).is_dir():
            folder = folder.parent
        if not os.access(self._root / folder, os.W_OK | os.X_OK):
            raise PermissionError(f"the worker may not write to {folder}")

    def put(self, path: str, content: bytes, mode: int) -> None:
        """Replace the file, or make it and the folders above it, in the hands of who owns them."""
        name = PurePosixPath(path).name
        with self._parent(path, make=True) as parent:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(UNFINISHED, dir_fd=parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            made = os.open(UNFINISHED, flags, 0o600, dir_fd=parent)
            with os.fdopen(made, "wb") as target:
                target.write(content)
                if os.getuid() == 0:
                    os.fchown(made, *_owner(name, parent))
                os.fchmod(made, mode)
                target.flush()
                os.fsync(made)
            os.rename(UNFINISHED, name, src_dir_fd=parent, dst_dir_fd=parent)
            os.fsync(parent)

    def remove(self, path: str) -> None:
        """Remove the file, and the folders above it that are empty then."""
        with contextlib.suppress(FileNotFoundError), self._parent(path) as parent:
            os.unlink(PurePosixPath(path).name, dir_fd=parent)
            os.fsync(parent)
        for folder in list(PurePosixPath(path).parents)[:-1]:
            try:
                with self._parent(str(folder)) as parent:
                    os.rmdir(folder.name, dir_fd=parent)
            except OSError:
                return

    @contextmanager
    def _parent(self, path: str, *, make: bool = False) -> Iterator[int]:
        folder = os.open(self._root, OPEN_FOLDER)
        try:
            for name in PurePosixPath(path).parent.parts:
                inner = _inner(name, folder, make=make)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)


def made_for(folder: Path, owner: tuple[int, int], mode: int = 0o755) -> Path:
    """The folder, made where it is missing, in the hands of the owner."""
    if not folder.is_dir():
        folder.mkdir(mode=mode, parents=True)
        if os.getuid() == 0:
            os.chown(folder, *owner, follow_symlinks=False)
    return folder


def _inner(name: str, folder: int, *, make: bool) -> int:
    try:
        return os.open(name, OPEN_FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    except PermissionError:
        raise
    except OSError as error:  # a file, or a link
        raise NotPlain(f"{name} is not a plain folder") from error
    os.mkdir(name, 0o755, dir_fd=folder)
    if os.getuid() == 0:
        found = os.fstat(folder)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=folder, follow_symlinks=False)
    os.fsync(folder)
    return os.open(name, OPEN_FOLDER, dir_fd=folder)


def _read(name: str, folder: int) -> Found:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode):
        what = "a link" if stat.S_ISLNK(found.st_mode) else "not a plain file"
        raise NotPlain(f"it is {what}")
    opened = os.open(name, OPEN_SOURCE | os.O_NONBLOCK, dir_fd=folder)
    with os.fdopen(opened, "rb") as source:
        return Found(source.read(), stat.S_IMODE(os.fstat(opened).st_mode))


def _owner(name: str, folder: int) -> tuple[int, int]:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        found = os.fstat(folder)
    return found.st_uid, found.st_gid

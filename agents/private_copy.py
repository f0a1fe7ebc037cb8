"""A workspace of one's own: what a command writes there touches nobody else."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

Ids = tuple[int, int]
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_SOURCE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_COPY = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def private_copy(root: Path, copy: Path, owner: Ids, leave_out: Collection[Path] = ()) -> None:
    """Copy the folder ``root`` to ``copy``, which must not exist, for ``owner`` to write to.

    Symlinks stay links, times and modes stay; sockets, pipes and devices are left out, and so are
    the folders of ``leave_out``. File systems that share blocks between copies do so here. A link
    that somebody puts in place of a file meanwhile is not followed.
    """
    copy.mkdir(mode=0o700)
    left_out = {str(folder.relative_to(root)) for folder in leave_out}
    source = os.open(root, OPEN_FOLDER)
    target = os.open(copy, OPEN_FOLDER)
    try:
        _copy_folder(source, target, owner, "", left_out)
    finally:
        os.close(source)
        os.close(target)


def _copy_folder(source: int, target: int, owner: Ids, inside: str, left_out: set[str]) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            path = f"{inside}{entry.name}"
            try:
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISLNK(found.st_mode):
                    _copy_link(entry.name, source, target, owner)
                elif stat.S_ISREG(found.st_mode):
                    _copy_file(entry.name, source, target, owner)
                elif stat.S_ISDIR(found.st_mode) and path not in left_out:
                    _copy_inner(entry.name, source, target, owner, f"{path}/", left_out)
            except FileNotFoundError:
                # Gone since it was listed: somebody works in the workspace at this moment.
                continue
    _finish(os.fstat(source), target, owner, stat.S_IRWXU)


def _copy_inner(
    name: str, source: int, target: int, owner: Ids, inside: str, left_out: set[str]
) -> None:
    below = os.open(name, OPEN_FOLDER, dir_fd=source)
    try:
        os.mkdir(name, 0o700, dir_fd=target)
        made = os.open(name, OPEN_FOLDER, dir_fd=target)
        try:
            _copy_folder(below, made, owner, inside, left_out)
        finally:
            os.close(made)
    finally:
        os.close(below)


def _copy_file(name: str, source: int, target: int, owner: Ids) -> None:
    # O_NONBLOCK: a pipe put in its place meanwhile must not hold us.
    reading = os.open(name, OPEN_SOURCE | os.O_NONBLOCK, dir_fd=source)
    try:
        found = os.fstat(reading)
        writing = os.open(name, OPEN_COPY, 0o600, dir_fd=target)
        try:
            left = found.st_size
            while left > 0 and (copied := os.copy_file_range(reading, writing, left)):
                left -= copied
            _finish(found, writing, owner, 0)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_link(name: str, source: int, target: int, owner: Ids) -> None:
    os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    if os.getuid() == 0:
        os.chown(name, *owner, dir_fd=target, follow_symlinks=False)


def _finish(found: os.stat_result, made: int, owner: Ids, at_least: int) -> None:
    if os.getuid() == 0:
        os.fchown(made, *owner)
    # Without set-user-id and the like: the copy belongs to somebody else.
    os.fchmod(made, stat.S_IMODE(found.st_mode) & 0o777 | at_least)
    os.utime(made, ns=(found.st_atime_ns, found.st_mtime_ns))

"""Workspaces as this machine sees them: is the folder at the path really that workspace?"""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path
from uuid import UUID

from batches.models import Workspace

MARKER = ".ollama-coder-workspace"
"""In the workspace's ``.git`` folder where it has one, so that it never shows up in a diff."""


class WrongPlace(Exception):
    """The folder is not there, or cannot be marked; the message says which."""


def marker_file(root: Path) -> Path:
    git = root / ".git"
    return (git if git.is_dir() else root) / MARKER


def adopt(workspace: Workspace) -> None:
    """Mark the folder, or take over the marker it has: another console, or an earlier registration
    of this one, may share the folder.

    Raises:
        WrongPlace: the marker can be neither read nor written.
    """
    file = marker_file(Path(workspace.path))
    try:
        try:
            workspace.marker = _read(file)
        except FileNotFoundError:
            workspace.marker = uuid.uuid4()
            with file.open("x", encoding="ascii") as fresh:
                fresh.write(f"{workspace.marker}\n")
    except ValueError:
        raise WrongPlace(f"{file} does not hold an id: remove it.") from None
    except OSError as error:
        raise WrongPlace(f"{file} cannot be written: {error.strerror}.") from error


def _read(file: Path) -> UUID:
    """The id in a marker. What lies there is not ours to trust: no link or pipe is followed.

    Raises:
        OSError, ValueError: there is none.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as source:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{file} is not a plain file")
        return UUID(source.read(64).decode("ascii").strip())


def can_open(workspace: Workspace) -> bool:
    """Is the folder at the workspace's path this workspace, on this machine?"""
    try:
        return _read(marker_file(Path(workspace.path))) == workspace.marker
    except (OSError, ValueError):
        return False


def openable() -> dict[UUID, Workspace]:
    """The workspaces this machine can open, by id."""
    return {row.pk: row for row in Workspace.objects.all() if can_open(row)}

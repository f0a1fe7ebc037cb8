"""Every path of a payload stays inside its workspace, in spelling and on disk."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from agents.contract import PayloadError

MAX_PATH_BYTES = 4095
"""PATH_MAX less its closing NUL (linux/limits.h)."""
MAX_NAME_BYTES = 255


class WorkspaceMissing(Exception):
    """The workspace cannot be opened on this machine."""


class PathEscapes(Exception):
    """The path leads out of the workspace."""


def checked_spelling(path: object, field: str = "path") -> str:
    """The path in its shortest spelling, relative, with ``/``; ``.`` is the workspace itself.

    Looks only at the text, so it can be asked where the workspace cannot be opened.

    Raises:
        PayloadError: it is empty, absolute, climbs with ``..`` or cannot be a file's name.
    """
    if not isinstance(path, str) or not path or not str(PurePosixPath(path)).strip():
        raise PayloadError(field, "must be a path inside the workspace, such as src/app.py")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in path):
        raise PayloadError(field, "must not contain control characters")
    if "\\" in path:
        raise PayloadError(field, "must use / between folders, not \\")
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        raise PayloadError(field, "must be valid Unicode text") from None
    if path.startswith("/"):
        raise PayloadError(field, "must be relative to the workspace, not absolute")
    parts = PurePosixPath(path).parts
    if ".." in parts:
        raise PayloadError(field, "must not contain ..")
    too_long = any(len(part.encode()) > MAX_NAME_BYTES for part in parts)
    if len(encoded) > MAX_PATH_BYTES or too_long:
        raise PayloadError(
            field, f"is longer than a path can be ({MAX_NAME_BYTES} bytes a name, 4095 in all)"
        )
    return str(PurePosixPath(path))


def contained(root: Path, relative: str) -> Path:
    """Where the path really leads, with every symlink followed.

    The answer can be outdated once somebody swaps a link; what a command may open is decided by
    the mounts of its sandbox.

    Raises:
        WorkspaceMissing: ``root`` is not there.
        PathEscapes: it leads out of ``root``.
        FileNotFoundError: nothing is there.
    """
    if not root.is_dir():
        raise WorkspaceMissing(f"the workspace's folder {root} is not on this machine")
    real_root = root.resolve()
    try:
        real = (real_root / relative).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        if isinstance(error, PermissionError):
            raise
        # Missing, below a file, or a loop of symlinks.
        raise FileNotFoundError(f"{relative} does not exist in the workspace") from error
    if not real.is_relative_to(real_root):
        raise PathEscapes(f"{relative} leads out of the workspace")
    return real

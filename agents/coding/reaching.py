"""Opening what lies in one folder, and nothing else, whatever a path says.

The folder belongs to commands that a model wrote; what it holds is not to be believed. Each part
of a path is opened below the one before, never through a link, so that a link put in its place
after it was looked at leads nowhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from agents.coding.refusals import Blocked, ToolRefused
from agents.contract import PayloadError
from agents.paths import PathEscapes, checked_spelling, contained

PROTECTED = {".git", ".ollama-coder-workspace"}
"""What belongs to git and to the console: a hook would be a command that nobody allowed."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MAKING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Reach:
    """What paths of one folder lead to. ``seen_as`` is what else the folder is called."""

    def __init__(self, folder: Path, seen_as: Path) -> None:
        self._folder = folder.resolve()
        self._seen_as = seen_as

    def spelled(self, path: str) -> str:
        """The path relative to the folder, in its shortest spelling.

        Raises:
            Blocked: it leads out of the folder.
            ToolRefused: it is no path.
        """
        for prefix in (self._seen_as, self._folder):
            if path == str(prefix) or path.startswith(f"{prefix}/"):
                path = path.removeprefix(str(prefix)).lstrip("/") or "."
        try:
            spelled = checked_spelling(path)
        except PayloadError as error:
            outside = path.startswith(("/", "~")) or ".." in PurePosixPath(path).parts
            refusal = Blocked if outside else ToolRefused
            raise refusal(f"{path[:200]!r}: the path {error.message}") from None
        if {part.lower() for part in PurePosixPath(spelled).parts} & PROTECTED:
            raise Blocked(f"{spelled} is out of bounds: it belongs to git or to the console")
        return spelled

    def leads_to(self, spelled: str) -> str:
        """Where a path that exists really leads, relative to the folder, links followed.

        Raises:
            Blocked: out of the folder, or to what is protected.
            ToolRefused: nothing is there.
        """
        try:
            real = contained(self._folder, spelled)
        except PathEscapes as error:
            raise Blocked(f"{error}") from None
        except FileNotFoundError:
            raise ToolRefused(f"{spelled} does not exist") from None
        except PermissionError:
            raise ToolRefused(f"{spelled} cannot be opened: permission denied") from None
        return self.spelled(str(real.relative_to(self._folder)))

    def will_lead_to(self, spelled: str) -> str:
        """Where a file of this name is, or would be once it is made."""
        path = PurePosixPath(spelled)
        missing: list[str] = []
        while path != PurePosixPath(".") and not os.path.lexists(self._folder / path):
            missing.append(path.name)
            path = path.parent
        return self.spelled(str(PurePosixPath(self.leads_to(str(path)), *reversed(missing))))

    @contextmanager
    def reading(self, real: str) -> Iterator[int]:
        """A descriptor of the regular file at a path as ``leads_to`` gives it."""
        with self._parent(real) as (parent, name):
            try:
                opened = os.open(name, READING, dir_fd=parent)
            except OSError as error:
                raise _refused(real, error) from None
            try:
                if not stat.S_ISREG(os.fstat(opened).st_mode):
                    raise ToolRefused(f"{real} is not a file")
                yield opened
            finally:
                os.close(opened)

    def replace(self, real: str, data: bytes, owner: tuple[int, int]) -> None:
        """Write a file whole or not at all; folders that are missing are made.

        It keeps its mode. A worker that is root gives it to ``owner``.
        """
        with self._parent(real, make_for=owner) as (parent, name):
            mode = _mode_of(real, name, parent)
            fresh = f".oc-{os.getpid()}-{os.urandom(8).hex()}"
            try:
                with open(os.open(fresh, MAKING, 0o600, dir_fd=parent), "wb") as file:  # noqa: PTH123 - below a folder that is open
                    file.write(data)
                    file.flush()
                    os.fchmod(file.fileno(), mode)
                    if os.getuid() == 0:
                        os.fchown(file.fileno(), *owner)
                os.replace(fresh, name, src_dir_fd=parent, dst_dir_fd=parent)
            except OSError as error:
                _forget(fresh, parent)
                raise _refused(real, error) from None

    @contextmanager
    def _parent(
        self, real: str, make_for: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, str]]:
        """The open folder of a path, and the name of its last part."""
        *folders, name = PurePosixPath(real).parts or ("",)
        if not name:
            raise ToolRefused(f"{real} is a folder, not a file")
        opened = os.open(self._folder, FOLDER)
        try:
            for folder in folders:
                try:
                    below = _open_folder(folder, opened, make_for)
                except OSError as error:
                    raise _refused(real, error) from None
                os.close(opened)
                opened = below
            yield opened, name
        finally:
            os.close(opened)


def _open_folder(name: str, parent: int, make_for: tuple[int, int] | None) -> int:
    if make_for is None:
        return os.open(name, FOLDER, dir_fd=parent)
    try:
        return os.open(name, FOLDER, dir_fd=parent)
    except FileNotFoundError:
        os.mkdir(name, 0o755, dir_fd=parent)
    made = os.open(name, FOLDER, dir_fd=parent)
    if os.getuid() == 0:
        os.fchown(made, *make_for)
    return made


def _mode_of(real: str, name: str, parent: int) -> int:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return 0o644
    if not stat.S_ISREG(found.st_mode):
        raise ToolRefused(f"{real} is not a file")
    return stat.S_IMODE(found.st_mode) & 0o777


def _forget(name: str, parent: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return


def _refused(path: str, error: OSError) -> ToolRefused:
    return ToolRefused(f"{path}: {(error.strerror or str(error)).lower()}")

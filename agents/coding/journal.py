"""What is about to be written to a workspace, kept beside it until all of it is: after a kill in
the middle, whoever comes next finishes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from agents.coding.placing import Found, NotPlain, Place, made_for, sha256
from agents.coding.repository import Repository
from agents.coding.worktrees import PRIVATE, locked_file, private_folder
from agents.private_copy import OPEN_SOURCE

PLAIN_PRIVATE = f".{PRIVATE}"
"""Our folder in a workspace that is no repository."""
MARKER = f".{PRIVATE}-workspace"
"""What tells the console that a folder is a workspace of its own; no task's to change."""
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Write:
    """One file to write. Hashes are SHA-256 of the content; None where there is no file."""

    path: str
    before: str | None
    after: str | None
    mode: int
    """Permission bits, where there is a file after."""


class Journal:
    """The writes to one workspace, by whoever holds its lock."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._place = Place(root)
        self._folder = folder
        self.left: list[str] = []
        """Paths of an unfinished write that somebody has changed since: they were left alone."""

    @classmethod
    @contextmanager
    def of(cls, root: Path) -> Iterator[Journal]:
        """The workspace's journal while nobody else writes; what was left unfinished is finished.

        Raises:
            OSError: its folder cannot be written.
        """
        folder = _where(root)
        parent = folder.parent.parent
        with private_folder(parent, (folder.parent.name,), _owner_of(parent)) as private:
            lock = locked_file(private, f"{folder.name}.lock")
            try:
                journal = cls(root, folder)
                journal.left = journal._finish_the_last()
                yield journal
            finally:
                os.close(lock)

    def write(self, writes: Sequence[Write], contents: dict[str, bytes]) -> list[str]:
        """Write all of it or, where the process dies before it is committed here, nothing.

        Returns the paths that were left alone because somebody changed them in this very moment.
        """
        shutil.rmtree(self._folder, ignore_errors=True)
        made_for(self._folder, _owner_of(self._folder.parent), 0o700)
        for number, write in enumerate(writes):
            if write.after is not None:
                _write_through(self._folder / str(number), contents[write.path])
        manifest = json.dumps([asdict(write) for write in writes])
        _write_through(self._folder / f"{MANIFEST}.new", manifest.encode())
        (self._folder / f"{MANIFEST}.new").rename(self._folder / MANIFEST)
        _sync(self._folder)
        _sync(self._folder.parent)
        return self._carry_out()

    def _finish_the_last(self) -> list[str]:
        return self._carry_out() if (self._folder / MANIFEST).is_file() else []

    def _carry_out(self) -> list[str]:
        writes = [Write(**told) for told in json.loads((self._folder / MANIFEST).read_bytes())]
        left = [
            write.path
            for number, write in enumerate(writes)
            if not self._written(write, self._folder / str(number))
        ]
        if left:
            # Nothing that was meant to be written is thrown away: a person may want it.
            (self._folder / MANIFEST).rename(self._folder / "left.json")
            kept = self._folder.with_name(f"left-{sha256(json.dumps(left).encode())[:16]}")
            shutil.rmtree(kept, ignore_errors=True)
            self._folder.rename(kept)
        else:
            (self._folder / MANIFEST).unlink()
            shutil.rmtree(self._folder)
        return left

    def _written(self, write: Write, staged: Path) -> bool:
        try:
            now = self._place.found(write.path)
        except NotPlain:
            return False
        if _hash(now) not in (write.before, write.after):
            return False
        if write.after is None:
            if now:
                self._place.remove(write.path)
        elif now is None or (now.sha256, now.mode) != (write.after, write.mode):
            content = _staged(staged)
            if sha256(content) != write.after:
                return False
            self._place.put(write.path, content, write.mode)
        return True


def recover(root: Path) -> list[str]:
    """Finish what a killed attempt had begun to write to the workspace.

    Returns the paths that were left alone because somebody has changed them since.

    Raises:
        OSError: it cannot be written.
    """
    if not (_where(root) / MANIFEST).is_file():
        return []
    with Journal.of(root) as journal:
        return journal.left


def _where(root: Path) -> Path:
    """Beside the repository's own files, which no diff shows; one for each workspace in it."""
    repository = Repository.around(root)
    private = repository.git_dir / PRIVATE if repository else root / PLAIN_PRIVATE
    return private / f"apply-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"


def _staged(path: Path) -> bytes:
    """Its hash decides whether it is ours; it is no link to what only we may read, either."""
    with os.fdopen(os.open(path, OPEN_SOURCE | os.O_NONBLOCK), "rb") as source:
        return source.read()


def _owner_of(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_uid, found.st_gid


def _hash(found: Found | None) -> str | None:
    return found.sha256 if found else None


def _write_through(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The git repository around a workspace, where git keeps what of it, and its base commit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from agents.bubblewrap import Mounts, View
from agents.coding.git import Git, GitFailed, RepositoryRefused

DEEPEST_ALTERNATES = 5
"""As git itself follows them (objects/info/alternates in gitrepository-layout(5))."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A work tree and its repository (gitrepository-layout(5)); every path is resolved."""

    top: Path
    """The folder that holds ``.git``: the workspace, or a folder above it."""
    git_dir: Path
    """Its own: ``HEAD`` and index."""
    common_dir: Path
    """What it shares with other work trees: objects, references, configuration."""

    @classmethod
    def around(cls, root: Path) -> Repository | None:
        """The repository whose work tree the folder belongs to.

        Raises:
            RepositoryRefused: the folder is a repository without files, or is part of one.
        """
        if ".git" in root.parts or _is_bare(root):
            raise RepositoryRefused(
                f"{root} is a repository's own folder, without files to work on: make a clone of "
                "it the workspace"
            )
        device = root.stat().st_dev
        for folder in (root, *root.parents):
            if folder.stat().st_dev != device:
                return None
            git_dir = _git_dir(folder / ".git")
            if git_dir:
                return cls(folder, git_dir, _common_dir(git_dir))
        return None

    @property
    def named(self) -> tuple[str, str]:
        """The options that name it to git.

        With a work tree that is there: the one a submodule's configuration names is not shown.
        """
        return f"--git-dir={self.git_dir}", f"--work-tree={self.git_dir}"

    @property
    def owner(self) -> tuple[int, int]:
        found = self.common_dir.stat()
        return found.st_uid, found.st_gid

    def object_folders(self) -> list[Path]:
        """Its own objects, and where it borrows some, each of them."""
        return list(dict.fromkeys(_alternates(self.common_dir / "objects", DEEPEST_ALTERNATES)))

    def reading(self, git: Git) -> Git:
        """The same git, run as the repository's owner on the repository, which it cannot change."""
        visible = [self.common_dir, *self.object_folders()]
        return replace(
            git,
            view=View(self.git_dir, self.git_dir, writable=False),
            mounts=Mounts(visible=[folder for folder in visible if folder != self.git_dir]),
            user=self.owner,
        )

    def base_commit(self, git: Git) -> str:
        """The commit that is checked out, in full; empty before the first one.

        Raises:
            RepositoryRefused: git cannot read the repository.
        """
        try:
            found = self.reading(git).run(
                *self.named, "rev-parse", "--verify", "--quiet", "HEAD^{commit}", fine=(0, 1)
            )
        except GitFailed as error:
            raise RepositoryRefused(f"the repository {self.top} cannot be read: {error}") from error
        return found.decode().strip()

    def has_commit(self, git: Git, commit: str) -> bool:
        code, _ = self.reading(git).ended(*self.named, "cat-file", "-e", f"{commit}^{{commit}}")
        return code == 0

    def settings(self, git: Git) -> dict[str, str]:
        """Its own settings that decide how a file looks in the work tree and how objects are named.

        Names are in lower case.
        """
        wanted = "^(core\\.(autocrlf|eol|filemode|symlinks|ignorecase)|extensions\\.objectformat)$"
        options = ("--local", "--no-includes", "-z", "--get-regexp", wanted)
        listed = self.reading(git).run(*self.named, "config", *options, fine=(0, 1))
        entries = (entry.partition("\n") for entry in listed.decode().split("\0") if entry)
        return {name: value if line else "true" for name, line, value in entries}


def _is_bare(folder: Path) -> bool:
    return (
        (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()
    )


def _git_dir(entry: Path) -> Path | None:
    """Where ``.git`` leads: itself, or for work trees and submodules the folder it names."""
    try:
        if (entry / "HEAD").is_file():
            return entry.resolve()
        if not entry.is_file():
            return None
        word, _, named = entry.read_text(encoding="utf-8").strip().partition(": ")
    except (OSError, UnicodeDecodeError):
        return None
    git_dir = (entry.parent / named).resolve()
    if word != "gitdir" or not (git_dir / "HEAD").is_file():
        raise RepositoryRefused(
            f"{entry} leads to no repository: run git worktree repair, or remove it"
        )
    return git_dir


def _common_dir(git_dir: Path) -> Path:
    try:
        named = (git_dir / "commondir").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return git_dir
    return (git_dir / named).resolve()


def _alternates(objects: Path, deepest: int) -> Iterator[Path]:
    yield objects
    try:
        text = (objects / "info" / "alternates").read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        other = (objects / line.strip()).resolve()
        if line.strip() and not line.startswith("#") and deepest > 0 and other.is_dir():
            yield from _alternates(other, deepest - 1)

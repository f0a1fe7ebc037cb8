"""An attempt's own copy of its workspace: what is changed there nobody else sees."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agents.bubblewrap import Mounts, View
from agents.coding.difference import difference
from agents.coding.git import ChangeRefused, GitFailed
from agents.coding.journal import MARKER, PLAIN_PRIVATE
from agents.coding.origin import Origin
from agents.coding.patch import Patch
from agents.coding.placing import made_for
from agents.coding.store import MADE_BY_TOOLS, SUBMODULE
from agents.coding.worktrees import worktree
from agents.contract import JSON, ProcessorContext, Workspace
from agents.private_copy import private_copy
from agents.sandbox import Sandbox
from agents.toolchain import of_workspace

INSTALLED = "node_modules"
"""What a project installs beside its files, and finds there: commands see it, read-only."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder with the workspace's files, and how commands see it: at the workspace's path."""

    folder: Path
    view: View
    mounts: Mounts


class OwnCopy:
    """The checkout an agent works in, and clean ones of the state it began from."""

    def __init__(self, origin: Origin, owner: tuple[int, int], top: Path, start_tree: str) -> None:
        self.origin = origin
        self._store = origin.store
        self._owner = owner
        self._top = top
        self._checkouts = 0
        own = _as_seen(origin, top)
        self.folder = own.folder
        self.view = own.view
        self.mounts = own.mounts
        self.base_commit = origin.base_commit
        """In full; empty where the workspace is no repository."""
        self.start_commit = start_tree
        """The tree it began from, among the attempt's own objects."""

    @classmethod
    @contextmanager
    def opened(
        cls, context: ProcessorContext, sandbox: Sandbox, start: Sequence[JSON]
    ) -> Iterator[OwnCopy]:
        """A copy at the base commit, with the predecessors' patches; removed on leaving.

        ``start`` holds ``{"base_commit", "patch"}`` of every predecessor, each before its
        dependents.

        Raises:
            WorkspaceMissing: there is no folder.
            RepositoryRefused: the workspace's repository cannot be used.
            StartConflict: the patches do not fit.
            GitFailed: whatever else git said.
        """
        origin = Origin.of_attempt(context, sandbox, start)
        owner = sandbox.user_for(origin.root)
        name = f"ollama-coder-{context.task_id}-{context.attempt}-{secrets.token_hex(4)}"
        making = _checked_out if origin.repository else _copied
        assert context.workspace is not None  # noqa: S101 - asked for by the origin
        with making(origin, context.workspace, owner, name, start) as (top, tree):
            context.record(
                "copy",
                base_commit=origin.base_commit,
                predecessors=len(start),
                kind="worktree" if origin.repository else "copy",
            )
            yield cls(origin, owner, top, tree)

    def diff(self) -> Patch:
        """Everything that was changed, ignored files left out.

        Raises:
            ChangeRefused: no patch can hold it.
        """
        tree = self._snapshot()
        origin = self.origin
        return difference(self._store, self.start_commit, tree, origin.inside, origin.base_commit)

    @contextmanager
    def fresh(
        self, patch: Patch | None = None, without: Collection[str] = ()
    ) -> Iterator[Checkout]:
        """A clean checkout at the start, with the patch except for the paths of ``without``.

        Raises:
            GitFailed: the patch was not made on this start.
        """
        self._checkouts += 1
        name = f"fresh-{self._checkouts}"
        tree = self.start_commit
        if patch:
            tree = self._store.patched(tree, patch.text, self.origin.inside, name)
        if without:
            before = self._store.files(self.start_commit)
            paths = [self._full(path) for path in without]
            versions = {path: before.get(path) for path in paths}
            tree = self._store.changed(tree, versions, name)
        top = made_for(self.origin.folder / name, self._owner, 0o700)
        try:
            self._store.check_out(tree, name, top)
            yield _as_seen(self.origin, top)
        finally:
            shutil.rmtree(top, ignore_errors=True)

    def _snapshot(self) -> str:
        paths = ("--", f":(top,literal){self.origin.inside}")
        try:
            tree = self._store.snapshot("copy", self._top, *paths)
            if not self._has_repositories(tree):
                return tree
        except GitFailed:
            pass  # a repository without a commit: the second try tells what else it is
        _forget_repositories(self.folder)
        try:
            self._store.read(self.start_commit, "copy")
            return self._store.snapshot("copy", self._top, *paths)
        except GitFailed as error:
            raise ChangeRefused(f"what was changed cannot be kept: {error}") from error

    def _has_repositories(self, tree: str) -> bool:
        changes = self._store.changes(self.start_commit, tree)
        return any(change.after and change.after.mode == SUBMODULE for change in changes)

    def _full(self, path: str) -> str:
        return f"{self.origin.inside}/{path}" if self.origin.inside else path


Made = tuple[Path, str]
"""The folder, as large as the repository's work tree; and the tree it is a checkout of."""


@contextmanager
def _checked_out(
    origin: Origin,
    workspace: Workspace,  # noqa: ARG001 - as _copied
    owner: tuple[int, int],
    name: str,
    start: Sequence[JSON],
) -> Iterator[Made]:
    repository = origin.repository
    assert repository is not None  # noqa: S101 - asked for by the caller
    holder = made_for(origin.folder / "copies", repository.owner)
    with worktree(repository, origin.git, origin.base_commit, holder, name):
        top = holder / name
        try:
            # Where it leads is nothing to show to commands, and would stop git from adding files.
            (top / ".git").unlink()
            if os.getuid() == 0:
                os.chown(top, *owner, follow_symlinks=False)
            tree = origin.started(origin.base_tree, start)
            origin.store.check_out(tree, "copy", top)
            yield top, tree
        finally:
            shutil.rmtree(top, ignore_errors=True)


@contextmanager
def _copied(
    origin: Origin,
    workspace: Workspace,
    owner: tuple[int, int],
    name: str,
    start: Sequence[JSON],
) -> Iterator[Made]:
    root = origin.root
    left_out = [root / INSTALLED, root / ".git", root / PLAIN_PRIVATE]
    left_out += [f for f in of_workspace(workspace).folders() if f.is_relative_to(root)]
    top = made_for(origin.folder / "copies", owner) / name
    try:
        private_copy(root, top, owner, leave_out=left_out)
        _forget_repositories(top)
        (top / MARKER).unlink(missing_ok=True)
        excluded = [f":(exclude,glob)**/{made.rstrip('/')}" for made in MADE_BY_TOOLS]
        base = origin.store.snapshot("copy", top, "--force", "--", ".", *excluded)
        tree = origin.started(base, start)
        origin.store.update(base, tree, "copy", top)
        yield top, tree
    finally:
        shutil.rmtree(top, ignore_errors=True)


def _as_seen(origin: Origin, top: Path) -> Checkout:
    folder = top / origin.inside
    installed = origin.root / INSTALLED
    shown = (
        installed.is_dir()
        and not installed.is_symlink()
        and not os.path.lexists(folder / INSTALLED)
    )
    return Checkout(
        folder,
        View(origin.root, folder, writable=True),
        Mounts(visible=[installed] if shown else []),
    )


def _forget_repositories(folder: Path) -> None:
    """Remove every ``.git`` below: git would keep a nested repository as a name without files."""
    for inside, folders, files in os.walk(folder):
        if ".git" in folders:
            folders.remove(".git")
            shutil.rmtree(Path(inside, ".git"))
        if ".git" in files:
            Path(inside, ".git").unlink()

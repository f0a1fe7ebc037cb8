"""Where an attempt begins: the base commit, and what its predecessors left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.bubblewrap import View
from agents.coding.git import Git, StartConflict
from agents.coding.journal import recover
from agents.coding.merging import Merge
from agents.coding.patch import Patch
from agents.coding.placing import made_for
from agents.coding.repository import Repository
from agents.coding.store import Store
from agents.contract import JSON, ProcessorContext
from agents.paths import WorkspaceMissing
from agents.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Origin:
    """A workspace, the repository it is part of, and the attempt's own objects."""

    root: Path
    folder: Path
    """The attempt's own, for copies and objects; it belongs to whom commands run as."""
    repository: Repository | None
    """None also where nothing of the workspace is tracked, or nothing was committed yet."""
    inside: str
    """Where the workspace is in its repository; empty at its top."""
    base_commit: str
    base_tree: str
    """Empty without a repository: the workspace itself is where it begins."""
    git: Git
    store: Store

    @classmethod
    def of_attempt(
        cls, context: ProcessorContext, sandbox: Sandbox, start: Sequence[JSON]
    ) -> Origin:
        """What an earlier call in the same attempt made is used again.

        Raises:
            WorkspaceMissing: there is no folder.
            RepositoryRefused, GitFailed: it has a repository that cannot be used.
            OSError: what a killed attempt had begun to write cannot be finished.
        """
        workspace = context.workspace
        if workspace is None or not workspace.root.is_dir():
            raise WorkspaceMissing("the workspace's folder is not on this machine")
        root = workspace.root
        finish_what_was_begun(root, context)
        folder = made_for(context.workdir / "own", sandbox.user_for(root))
        git = Git.of_attempt(context, sandbox, View(folder, folder, writable=True))
        repository = Repository.around(root)
        commit = _base_commit(repository, git, start) if repository else ""
        if repository and commit:
            inside = root.relative_to(repository.top).as_posix().removeprefix(".")
            store = Store(git, folder, repository)
            tree = store.base(commit, inside)
            if tree:
                return cls(root, folder, repository, inside, commit, tree, git, store)
        return cls(root, folder, None, "", "", "", git, Store(git, folder, None))

    def started(self, tree: str, start: Sequence[JSON]) -> str:
        """The tree with the patches of the predecessors, each before its dependents.

        Raises:
            StartConflict: one of them does not fit.
        """
        for number, entry in enumerate(start, 1):
            patch = Patch(entry["patch"] or "", entry["base_commit"])
            merged = Merge(self.store, tree, patch, self.inside).done()
            if merged.conflicts:
                paths = ", ".join(conflict.path for conflict in merged.conflicts)
                raise StartConflict(
                    f"the patch of predecessor {number} of {len(start)} does not fit on what the "
                    f"task begins from: {paths}",
                    [conflict.as_json() for conflict in merged.conflicts],
                )
            tree = merged.tree
        return tree


def finish_what_was_begun(root: Path, context: ProcessorContext) -> None:
    """Whatever a killed attempt had begun to write to the workspace.

    Raises:
        OSError: it cannot be written.
    """
    if left := recover(root):
        context.record(
            "write unfinished",
            level="warning",
            files=left,
            message="A killed attempt had begun to write these files, and they were changed "
            "since: they stay as they are, and what it wanted to write is kept beside the "
            "repository's own files (ollama-coder/left-…).",
        )


def _base_commit(repository: Repository, git: Git, start: Sequence[JSON]) -> str:
    """That of the latest predecessor, whose patch then fits as it is; else what is checked out."""
    for entry in reversed(start):
        commit: str = entry["base_commit"]
        if commit and repository.has_commit(git, commit):
            return commit
    return repository.base_commit(git)

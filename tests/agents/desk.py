"""Repositories as workspaces, and attempts that copy them and apply patches."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from agents.coding.applying import Applied, Conflict, apply
from agents.coding.own_copy import OwnCopy
from agents.coding.patch import Patch
from agents.contract import (
    JSON,
    EffectRefused,
    Environment,
    Workspace,
)
from agents.launch import Command
from agents.limits import SandboxSettings
from agents.sandbox import Held, Sandbox
from agents.toolchain import of_console
from tests.agents.conftest import RecordingContext


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def committed(folder: Path) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "state")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(project: Path) -> Path:
    git(project, "init", "-q")
    (project / "app.py").write_text("one\ntwo\nthree\n")
    (project / "src").mkdir()
    (project / "src" / "deep.py").write_text("deep\n")
    (project / "run.sh").write_text("#!/bin/sh\n")
    (project / "run.sh").chmod(0o755)
    (project / ".gitignore").write_text("*.log\n.env\n")
    committed(project)
    (project / ".env").write_text("SECRET=1")
    return project


@pytest.fixture
def sandbox(bubblewrap: Held) -> Sandbox:
    return Sandbox(bubblewrap, SandboxSettings())


@contextlib.contextmanager
def opened(
    context: RecordingContext, sandbox: Sandbox, start: list[JSON] | None = None
) -> Iterator[OwnCopy]:
    with OwnCopy.opened(context, sandbox, start or []) as copy:
        yield copy


def in_sandbox(sandbox: Sandbox, copy: OwnCopy, code: str) -> str:
    """Run Python in the copy, as an agent's command does."""
    command = Command(["python", "-c", code], copy.view, of_console(), mounts=copy.mounts)
    finished = sandbox.run(command, timedelta(seconds=20))
    assert finished.exit_code == 0, finished.output.text
    return finished.output.text


def worktrees(repository: Path) -> int:
    return git(repository, "worktree", "list", "--porcelain").count("worktree ") - 1


def is_untouched(repository: Path) -> bool:
    git(repository, "fsck", "--strict", "--no-dangling")
    assert not (repository / ".git" / "worktrees").exists()
    assert list((repository / ".git" / "ollama-coder" / "attempts").iterdir()) == []
    return worktrees(repository) == 0 and git(repository, "status", "--porcelain") == ""


LINES = "".join(f"line {number}\n" for number in range(1, 21))


@dataclass
class Fenced(RecordingContext):
    """Grants effects and remembers them, until the lease is lost."""

    effects: list[tuple[str, bool]] = field(default_factory=list)
    lost: bool = False
    at_effect: Callable[[], None] = lambda: None

    def effect(self, name: str, *, exclusive: bool = False) -> None:
        if self.lost:
            raise EffectRefused("the lease is lost")
        self.effects.append((name, exclusive))
        self.at_effect()


@dataclass
class Desk:
    """Makes patches of a workspace, and applies them, each in an attempt of its own."""

    root: Path
    sandbox: Sandbox
    scratch: Path
    attempts: int = 0

    def context(self) -> Fenced:
        self.attempts += 1
        workspace = Workspace("project", self.root, Environment())
        return Fenced(self.scratch / f"attempt-{self.attempts}", workspace)

    def patch(self, change: Callable[[Path], object], start: list[JSON] | None = None) -> Patch:
        with OwnCopy.opened(self.context(), self.sandbox, start or []) as copy:
            change(copy.folder)
            return copy.diff()

    def edited(self, path: str, old: str, new: str) -> Patch:
        """As ``patch`` makes it, by plain git and faster: one edit of what is committed."""
        there = self.root / path
        now = there.read_bytes()
        git(self.root, "checkout", "-q", "--", path)
        edit(path, old, new)(self.root)
        text = git(self.root, "diff", "--binary", "--full-index", "--", path) + "\n"
        there.write_bytes(now)
        return Patch(text, git(self.root, "rev-parse", "HEAD"))

    def apply(self, patch: Patch, start: list[JSON] | None = None) -> Applied | Conflict:
        return apply(patch, start or [], self.context(), self.sandbox)


@pytest.fixture
def desk(project: Path, sandbox: Sandbox, tmp_path: Path) -> Desk:
    git(project, "init", "-q")
    (project / "app.py").write_text(LINES)
    (project / "gone.py").write_text("gone\n")
    (project / "sub").mkdir()
    (project / "sub" / "one.py").write_text("one\n")
    committed(project)
    return Desk(project, sandbox, tmp_path)


def edit(path: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / path).write_text((folder / path).read_text().replace(old, new))


def state(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mode & 0o777, path.read_bytes())
        for path in root.rglob("*")
        if path.is_file() and not path.is_relative_to(root / ".git")
    }

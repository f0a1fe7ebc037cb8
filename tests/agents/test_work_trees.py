"""Work trees of unusual repositories, and of attempts that were killed."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agents.bubblewrap import View
from agents.coding.git import RepositoryRefused
from agents.coding.own_copy import OwnCopy
from agents.coding.worktrees import sweep
from agents.contract import Environment, Workspace
from agents.launch import Command
from agents.limits import SandboxSettings
from agents.sandbox import Held, Sandbox
from agents.toolchain import of_console
from tests.agents.conftest import RecordingContext
from tests.agents.desk import (
    committed,
    desk,
    git,
    is_untouched,
    opened,
    repository,
    sandbox,
    worktrees,
)
from tests.patience import PATIENCE

__all__ = ["desk", "repository", "sandbox"]


@pytest.mark.parametrize(
    "kind", ["no commit", "ignored", "shallow", "borrowing", "linked", "sha", "submodule"]
)
def test_unusual_repositories_work(
    kind: str, context: RecordingContext, sandbox: Sandbox, repository: Path, tmp_path: Path
) -> None:
    root = tmp_path / "other"
    match kind:
        case "no commit":
            root.mkdir()
            git(root, "init", "-q")
            (root / "app.py").write_text("one\n")
        case "ignored":
            root = repository / "build.log"
            root.mkdir()
            (root / "app.py").write_text("one\n")
        case "shallow":
            committed(repository)
            git(tmp_path, "clone", "-q", "--depth=1", f"file://{repository}", str(root))
        case "borrowing":
            git(tmp_path, "clone", "-q", "--shared", str(repository), str(root))
        case "linked":
            git(repository, "worktree", "add", "-q", str(root))
        case "submodule":
            local = ("-c", "protocol.file.allow=always")
            git(repository, *local, "submodule", "add", "-q", str(repository), "inner")
            root = repository / "inner"
        case "sha":
            root.mkdir()
            git(root, "init", "-q", "--object-format=sha256")
            (root / "app.py").write_text("one\n")
            committed(root)
    context.workspace = Workspace("other", root, Environment())
    with opened(context, sandbox) as copy:
        assert bool(copy.base_commit) == (kind not in ("no commit", "ignored"))
        (copy.folder / "app.py").write_text("changed\n")
        patch = copy.diff()
        assert [file.path for file in patch.files] == ["app.py"]
        with copy.fresh(patch) as clean:
            assert (clean.folder / "app.py").read_text() == "changed\n"
    assert worktrees(repository) == (kind == "linked")


def test_submodules_are_left_empty_and_alone(
    context: RecordingContext, sandbox: Sandbox, repository: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "-q", str(repository), str(tmp_path / "library"))
    git(
        repository,
        *("-c", "protocol.file.allow=always"),
        *("submodule", "add", "-q", str(tmp_path / "library"), "lib"),
    )
    committed(repository)
    with opened(context, sandbox) as copy:
        assert list((copy.folder / "lib").iterdir()) == []
        (copy.folder / "app.py").write_text("changed\n")
        assert [file.path for file in copy.diff().files] == ["app.py"]
    assert is_untouched(repository)


def test_what_cannot_be_copied_is_refused_in_words(
    context: RecordingContext, sandbox: Sandbox, repository: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(tmp_path / "bare"))
    for root in (tmp_path / "bare", repository / ".git" / "objects"):
        context.workspace = Workspace("odd", root, Environment())
        with pytest.raises(RepositoryRefused, match="without files"), opened(context, sandbox):
            pass
    (tmp_path / "stray").mkdir()
    (tmp_path / "stray" / ".git").write_text("gitdir: /nowhere\n")
    context.workspace = Workspace("odd", tmp_path / "stray", Environment())
    with pytest.raises(RepositoryRefused, match="leads to no repository"), opened(context, sandbox):
        pass


def test_programs_of_the_repositorys_configuration_do_not_run(
    context: RecordingContext, sandbox: Sandbox, repository: Path
) -> None:
    ran = repository / ".git" / "ran"
    program = repository / ".git" / "program"
    program.write_text(f"#!/bin/sh\necho $0 >> {ran}\ncat\n")
    program.chmod(0o755)
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        (repository / ".git" / "hooks").mkdir(exist_ok=True)
        (repository / ".git" / "hooks" / hook).symlink_to(program)
    (repository / ".gitattributes").write_text("*.py filter=evil diff=evil\n")
    committed(repository)
    ran.unlink(missing_ok=True)
    for name in ("filter.evil.smudge", "filter.evil.clean", "diff.evil.textconv", "core.fsmonitor"):
        git(repository, "config", name, str(program))
    with opened(context, sandbox) as copy:
        (copy.folder / "app.py").write_text("changed\n")
        assert "+changed" in copy.diff().text
    assert not ran.exists()


def test_line_ends_are_as_the_repository_wants_them(
    context: RecordingContext, sandbox: Sandbox, repository: Path
) -> None:
    (repository / ".gitattributes").write_text("*.bat text eol=crlf\n")
    (repository / "run.bat").write_text("echo\r\n", newline="")
    committed(repository)
    with opened(context, sandbox) as copy:
        assert (copy.folder / "run.bat").read_bytes() == b"echo\r\n"
        assert copy.diff().is_empty


def _open_and_wait(context: RecordingContext, held: Held, opened_at: object) -> None:
    with OwnCopy.opened(context, Sandbox(held, SandboxSettings()), []):
        opened_at.wait()
        multiprocessing.Event().wait()


def test_the_dead_are_swept_and_the_living_are_not(
    context: RecordingContext, sandbox: Sandbox, repository: Path, tmp_path: Path
) -> None:
    spawn = multiprocessing.get_context("spawn")
    opened_at = spawn.Barrier(3)
    others = []
    for number in (1, 2):
        other = replace(context, folder=tmp_path / f"other-{number}", attempt=number)
        others.append(
            spawn.Process(target=_open_and_wait, args=(other, sandbox.held, opened_at), daemon=True)
        )
        others[-1].start()
    opened_at.wait(PATIENCE)
    assert worktrees(repository) == 2
    others[0].kill()
    others[0].join()
    # What git leaves of a third when it is killed in the middle.
    (repository / ".git" / "ollama-coder" / "attempts" / "ollama-coder-half").touch()
    (repository / ".git" / "worktrees" / "ollama-coder-half").mkdir()
    assert sweep(repository, sandbox) == 2
    assert worktrees(repository) == 1
    others[1].kill()
    others[1].join()
    with opened(context, sandbox):
        assert worktrees(repository) == 1
    assert is_untouched(repository)
    assert sweep(repository, sandbox) == 0


def _runs(word: str) -> bool:
    for words in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if word.encode() in words.read_bytes():
                return True
    return False


def _run_with_a_lock(root: Path, held: Held, begun: object, seconds: str) -> None:
    lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    view = View(root, root, writable=False)
    command = Command(["sleep", seconds], view, of_console(), inherited=[lock])
    sandbox = Sandbox(held, SandboxSettings())
    sandbox.run(command, timedelta(seconds=60), watch=lambda _output: begun.set())


def test_a_killed_attempts_lock_is_kept_until_its_command_has_ended(
    root: Path, bubblewrap: Held
) -> None:
    """git that adds a work tree outlives its attempt by some milliseconds."""
    spawn = multiprocessing.get_context("spawn")
    long = f"1000{os.getpid()}"
    for _ in range(3):
        begun = spawn.Event()
        attempt = spawn.Process(target=_run_with_a_lock, args=(root, bubblewrap, begun, long))
        attempt.start()
        assert begun.wait(PATIENCE)
        with (root / "lock").open("r+b") as lock:
            attempt.kill()
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert not _runs(long)
        attempt.join()

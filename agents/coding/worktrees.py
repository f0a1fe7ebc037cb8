"""Work trees of running attempts: registered one at a time per repository, each held by a lock that
the kernel drops when its attempt dies, so that anybody can remove what the dead left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from agents.bubblewrap import Mounts, View
from agents.coding.git import Git, GitFailed, RepositoryRefused
from agents.coding.repository import Repository
from agents.launch import Command
from agents.private_copy import OPEN_FOLDER
from agents.sandbox import Sandbox
from agents.toolchain import of_console

PRIVATE = "ollama-coder"
"""Our folder in the repository's own."""
NAME = re.compile(r"ollama-coder-[A-Za-z0-9-]{1,200}\Z")
REMOVAL = timedelta(seconds=30)
OPEN_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def worktree(
    repository: Repository, git: Git, commit: str, folder: Path, name: str
) -> Iterator[None]:
    """Register ``folder / name`` as a work tree of the commit, empty, while entered.

    ``folder`` belongs to the repository's owner. What was left of dead attempts is removed on
    entering and on leaving.

    Raises:
        RepositoryRefused: the repository cannot be written.
        GitFailed: git could not add it.
    """
    with _attempts(repository) as attempts:
        with _locked(attempts) as lock:
            _sweep(repository, git.sandbox, attempts, lock)
            held = locked_file(attempts, name, os.O_EXCL)
            try:
                _add(repository, replace(git, inherited=[lock]), commit, folder / name)
            except BaseException:
                _remove(repository, git.sandbox, attempts, lock, [name])
                os.close(held)
                raise
        try:
            yield
        finally:
            try:
                with _locked(attempts) as lock:
                    _remove(repository, git.sandbox, attempts, lock, [name])
                    _sweep(repository, git.sandbox, attempts, lock)
            finally:
                os.close(held)


def sweep(root: Path, sandbox: Sandbox) -> int:
    """Remove the work trees whose attempts are dead; how many there were."""
    repository = Repository.around(root)
    if repository is None or not (repository.common_dir / PRIVATE).is_dir():
        return 0
    with _attempts(repository) as attempts, _locked(attempts) as lock:
        return _sweep(repository, sandbox, attempts, lock)


@contextmanager
def private_folder(parent: Path, names: Sequence[str], owner: tuple[int, int]) -> Iterator[int]:
    """A descriptor of a folder below ``parent`` that is made where it is missing.

    No link is followed: what lies there is the workspace's owner's, and we may be root.
    """
    descriptors = [os.open(parent, OPEN_FOLDER)]
    try:
        for name in names:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=descriptors[-1])
                if os.getuid() == 0:
                    os.chown(name, *owner, dir_fd=descriptors[-1], follow_symlinks=False)
            descriptors.append(os.open(name, OPEN_FOLDER, dir_fd=descriptors[-1]))
        yield descriptors[-1]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


@contextmanager
def _attempts(repository: Repository) -> Iterator[int]:
    """The folder with one file for each running attempt, which that attempt has locked."""
    with contextlib.ExitStack() as stack:
        try:
            attempts = stack.enter_context(
                private_folder(repository.common_dir, (PRIVATE, "attempts"), repository.owner)
            )
        except OSError as error:
            raise RepositoryRefused(
                f"{repository.common_dir} cannot be written by the worker ({error.strerror}): "
                "a task of an agent adds a work tree to the repository. Run the worker as the "
                "repository's owner"
            ) from error
        yield attempts


@contextmanager
def _locked(attempts: int) -> Iterator[int]:
    """Nobody else adds or removes a work tree meanwhile: git itself loses races there.

    Whatever adds or removes one holds the lock's descriptor too: it may outlive us by a moment.
    """
    lock = locked_file(attempts, "../lock")
    try:
        yield lock
    finally:
        os.close(lock)


def locked_file(folder: int, name: str, flags: int = 0) -> int:
    """A descriptor that holds the lock; it is dropped with the last copy of the descriptor."""
    locked = os.open(name, OPEN_LOCK | flags, 0o600, dir_fd=folder)
    if os.getuid() == 0:
        # A worker that is not root may come next.
        found = os.fstat(folder)
        os.fchown(locked, found.st_uid, found.st_gid)
    fcntl.flock(locked, fcntl.LOCK_EX)
    return locked


def _add(repository: Repository, git: Git, commit: str, path: Path) -> None:
    common = repository.common_dir
    borrowed = [folder for folder in repository.object_folders() if common not in folder.parents]
    replace(
        git,
        view=View(common, common, writable=True),
        mounts=Mounts(visible=borrowed, writable=[path.parent]),
        user=repository.owner,
    ).run(
        f"--git-dir={common}",
        f"--work-tree={common}",
        *("worktree", "add", "--quiet", "--detach", "--no-checkout"),
        *("--lock", "--reason", "a running task of an agent"),
        str(path),
        commit,
    )


def _sweep(repository: Repository, sandbox: Sandbox, attempts: int, lock: int) -> int:
    dead = [name for name in os.listdir(attempts) if NAME.match(name) and _is_dead(attempts, name)]
    if dead:
        _remove(repository, sandbox, attempts, lock, dead)
    return len(dead)


def _is_dead(attempts: int, name: str) -> bool:
    try:
        held = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=attempts)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(held)
    return True


def _remove(
    repository: Repository, sandbox: Sandbox, attempts: int, lock: int, names: Sequence[str]
) -> None:
    """Forget the work trees, also those that git was killed in the middle of adding.

    As the repository's owner and seeing nothing else: the paths are his to bend.
    """
    worktrees = repository.common_dir / "worktrees"
    if worktrees.is_dir():
        view = View(repository.common_dir, repository.common_dir, writable=True)
        paths = [str(worktrees / name) for name in names]
        command = Command(
            ["/usr/bin/rm", "-rf", "--", *paths],
            view,
            of_console(),
            user=repository.owner,
            inherited=[lock],
        )
        finished = sandbox.run(command, REMOVAL)
        if finished.exit_code != 0:
            raise GitFailed(f"a work tree cannot be removed: {finished.output.text.strip()}")
        with contextlib.suppress(OSError):  # others are there, or it has gone with git's own
            worktrees.rmdir()
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=attempts)

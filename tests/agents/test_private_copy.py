"""The private copy of a workspace is the workspace, and leads nowhere else."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from agents.private_copy import private_copy

US = (os.getuid(), os.getgid())


def tree(root: Path) -> dict[str, tuple[int, int, bytes | str]]:
    """Mode, time and content of everything below a folder."""
    seen: dict[str, tuple[int, int, bytes | str]] = {}
    for path in root.rglob("*"):
        found = path.lstat()
        if path.is_symlink():
            content: bytes | str = str(path.readlink())
            seen[str(path.relative_to(root))] = (0, 0, content)
            continue
        content = path.read_bytes() if path.is_file() else "folder"
        seen[str(path.relative_to(root))] = (found.st_mode, found.st_mtime_ns, content)
    return seen


def test_the_copy_is_the_same_tree(project: Path, tmp_path: Path) -> None:
    (project / "src" / "empty").mkdir(parents=True)
    (project / "src" / "größe 名.py").write_bytes(b"\0" * 100_000)
    (project / "run.sh").write_text("#!/bin/sh\n")
    (project / "run.sh").chmod(0o755)
    (project / "read-only").write_text("x")
    (project / "read-only").chmod(0o444)
    (project / "link").symlink_to("src")
    (project / "dangling").symlink_to("/nowhere")
    os.utime(project / "src", ns=(1, 10**18))
    copy = tmp_path / "copy"
    private_copy(project, copy, US)
    assert tree(copy) == tree(project)
    (copy / "src" / "größe 名.py").write_text("changed")
    assert (project / "src" / "größe 名.py").stat().st_size == 100_000


def test_a_link_is_copied_and_not_followed(project: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("private")
    (project / "out").symlink_to(secret)
    private_copy(project, tmp_path / "copy", US)
    assert (tmp_path / "copy" / "out").is_symlink()
    assert list(tree(tmp_path / "copy")) == ["out"]


def test_what_is_left_out_is_left_out_there_only(project: Path, tmp_path: Path) -> None:
    for folder in (".venv", "src/.venv"):
        (project / folder).mkdir(parents=True)
        (project / folder / "file").write_text("")
    private_copy(project, tmp_path / "copy", US, leave_out=[project / ".venv"])
    assert sorted(tree(tmp_path / "copy")) == ["src", "src/.venv", "src/.venv/file"]


def test_pipes_and_sockets_do_not_hold_it_up(project: Path, tmp_path: Path) -> None:
    os.mkfifo(project / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(project / "socket"))
        (project / "file").write_text("x")
        private_copy(project, tmp_path / "copy", US)
    assert list(tree(tmp_path / "copy")) == ["file"]


def test_the_copy_belongs_to_its_owner_without_privileges(project: Path, tmp_path: Path) -> None:
    (project / "tool").write_text("")
    (project / "tool").chmod(0o4755)
    (project / "shut").mkdir(mode=0o500)
    owner = (65534, 65534) if os.getuid() == 0 else US
    private_copy(project, tmp_path / "copy", owner)
    tool = (tmp_path / "copy" / "tool").stat()
    assert stat.S_IMODE(tool.st_mode) == 0o755
    assert (tool.st_uid, tool.st_gid) == owner
    assert stat.S_IMODE((tmp_path / "copy" / "shut").stat().st_mode) == 0o700

"""Applying a patch while others write, when the lease is lost, and after a kill."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agents.coding.applying import Applied, Conflict, apply
from agents.coding.own_copy import OwnCopy
from agents.contract import (
    EffectRefused,
    Environment,
    Workspace,
)
from agents.processors.apply import ApplyProcessor
from agents.sandbox import Sandbox
from tests.agents.desk import (
    LINES,
    Desk,
    desk,
    edit,
    git,
    repository,
    sandbox,
    state,
)
from tests.patience import PATIENCE

__all__ = ["desk", "repository", "sandbox"]


ROOT = Path(__file__).resolve().parents[2]


def test_what_another_wrote_before_the_effect_was_granted_stays(desk: Desk) -> None:
    patch = desk.edited("app.py", "line 3\n", "mine\n")
    context = desk.context()
    context.at_effect = lambda: edit("app.py", "line 12\n", "yours\n")(desk.root)
    assert apply(patch, [], context, desk.sandbox) == Applied("applied", ("app.py",))
    expected = LINES.replace("line 3\n", "mine\n").replace("line 12\n", "yours\n")
    assert (desk.root / "app.py").read_text() == expected


def test_what_changes_before_the_effect_is_granted_is_seen(desk: Desk) -> None:
    patch = desk.edited("app.py", "line 3\n", "mine\n")
    context = desk.context()
    context.at_effect = lambda: edit("app.py", "line 3\n", "yours\n")(desk.root)
    assert isinstance(apply(patch, [], context, desk.sandbox), Conflict)
    assert "mine" not in (desk.root / "app.py").read_text()


def test_a_lost_lease_writes_nothing(desk: Desk) -> None:
    patch = desk.edited("app.py", "line 3\n", "mine\n")
    before = state(desk.root)
    context = desk.context()
    context.lost = True
    with pytest.raises(EffectRefused):
        apply(patch, [], context, desk.sandbox)
    assert state(desk.root) == before


def test_killed_at_any_step_the_workspace_is_whole(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.journal_kills", str(tmp_path)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 30


def test_a_file_that_somebody_changed_after_the_kill_is_left_alone(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    from tests import journal_kills

    root = tmp_path / "root"
    journal_kills.lay_out(root)
    killed = (
        "import os, pathlib, signal, sys\n"
        "from agents.coding.placing import Place\n"
        "from tests.journal_kills import write\n"
        "Place.put = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write(pathlib.Path(sys.argv[1]), None)"
    )
    child = subprocess.Popen([sys.executable, "-c", killed, str(root)], cwd=ROOT)
    assert child.wait(PATIENCE) == -9
    (root / "a.txt").write_bytes(b"edited by hand")
    git(root, "init", "-q")
    context = Desk(root, sandbox, tmp_path).context()
    with OwnCopy.opened(context, sandbox, []):
        pass
    told = context.log[0]
    assert (told["event"], told["files"]) == ("write unfinished", ["a.txt"])
    files = journal_kills.files(root)
    assert files == {"a.txt": b"edited by hand", "made/deep/c.txt": b"new c"}
    kept = next((root / ".git" / "ollama-coder").glob("left-*"))
    assert b"new a" in {path.read_bytes() for path in kept.iterdir()}


def _edit_and_apply(desk: Desk, number: int, together: object) -> None:
    old, new = f"line {number}\n", f"LINE {number}\n"
    patch = desk.patch(edit("app.py", old, new))
    together.wait()
    assert desk.apply(patch) == Applied("applied", ("app.py",))


def test_patches_that_come_together_all_stay(desk: Desk) -> None:
    spawn = multiprocessing.get_context("spawn")
    numbers = (2, 7, 12, 17)
    together = spawn.Barrier(len(numbers))
    others = [
        spawn.Process(
            target=_edit_and_apply,
            args=(replace(desk, scratch=desk.scratch / str(number)), number, together),
        )
        for number in numbers
    ]
    for other in others:
        other.start()
    for other in others:
        other.join(50)
    assert [other.exitcode for other in others] == [0] * len(numbers)
    expected = LINES
    for number in numbers:
        expected = expected.replace(f"line {number}\n", f"LINE {number}\n")
    assert (desk.root / "app.py").read_text() == expected
    assert git(desk.root, "worktree", "list").count("\n") == 0


def test_what_a_kill_left_is_tidied(desk: Desk) -> None:
    attempts = desk.root / ".git" / "ollama-coder" / "attempts"
    desk.patch(lambda _folder: None)
    (attempts / "ollama-coder-dead").touch()
    (desk.root / ".git" / "worktrees" / "ollama-coder-dead").mkdir(parents=True)
    processor = ApplyProcessor()
    processor.tidy(Workspace("project", desk.root, Environment()), {})
    assert list(attempts.iterdir()) == []
    assert not (desk.root / ".git" / "worktrees").exists()
    processor.tidy(Workspace("project", desk.root / "missing", Environment()), {})

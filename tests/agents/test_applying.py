"""A patch in the workspace: all of it or nothing, once, around what others changed meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agents.coding.applying import Applied, Conflict, apply
from agents.coding.own_copy import OwnCopy
from agents.coding.patch import Patch
from agents.contract import (
    JSON,
    EffectRefused,
    Environment,
    PayloadError,
    Rejected,
    Succeeded,
    Workspace,
)
from agents.limits import SandboxSettings
from agents.processors.apply import ApplyProcessor
from agents.sandbox import Held, Sandbox
from tests.agents.conftest import RecordingContext
from tests.agents.test_own_copy import committed, git

ROOT = Path(__file__).resolve().parents[2]
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

    def apply(self, patch: Patch, start: list[JSON] | None = None) -> Applied | Conflict:
        return apply(patch, start or [], self.context(), self.sandbox)


@pytest.fixture
def sandbox(bubblewrap: Held) -> Sandbox:
    return Sandbox(bubblewrap, SandboxSettings())


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


def test_everything_a_patch_can_say_is_applied(desk: Desk) -> None:
    def change(folder: Path) -> None:
        edit("app.py", "line 3\n", "line three\n")(folder)
        (folder / "gone.py").unlink()
        (folder / "sub" / "one.py").chmod(0o755)
        (folder / "new" / "deep").mkdir(parents=True)
        (folder / "new" / "deep" / "data.bin").write_bytes(bytes(range(256)))
        (folder / "größe 名.sh").write_bytes("Größe\r\n".encode("latin-1"))
        (folder / "größe 名.sh").chmod(0o755)

    (desk.root / "app.py").chmod(0o640)
    context = desk.context()
    patch = desk.patch(change)
    assert apply(patch, [], context, desk.sandbox) == Applied(
        "applied",
        ("app.py", "gone.py", "größe 名.sh", "new/deep/data.bin", "sub/one.py"),
    )
    assert context.effects == [("apply", True)]
    assert state(desk.root) == {
        "app.py": (0o640, LINES.replace("line 3\n", "line three\n").encode()),
        "größe 名.sh": (0o755, "Größe\r\n".encode("latin-1")),
        "new/deep/data.bin": (0o644, bytes(range(256))),
        "sub/one.py": (0o755, b"one\n"),
    }
    owners = {path.stat().st_uid for path in desk.root.rglob("*")}
    assert owners == {desk.root.stat().st_uid}
    git(desk.root, "fsck", "--strict")


def test_what_others_changed_meanwhile_stays(desk: Desk) -> None:
    one, two = (
        desk.patch(edit("app.py", "line 3\n", "3\n")),
        desk.patch(edit("app.py", "line 12\n", "12\n")),
    )
    edit("app.py", "line 20\n", "twenty\n")(desk.root)
    assert desk.apply(one) == desk.apply(two) == Applied("applied", ("app.py",))
    expected = LINES.replace("line 3\n", "3\n").replace("line 12\n", "12\n")
    assert (desk.root / "app.py").read_text() == expected.replace("line 20\n", "twenty\n")


def test_a_patch_that_is_there_is_not_applied_twice(desk: Desk) -> None:
    patch = desk.patch(edit("app.py", "line 20\n", "line 20\nline 20\n"))
    desk.apply(patch)
    edit("app.py", "line 1\n", "first\n")(desk.root)
    before = state(desk.root)
    context = desk.context()
    assert apply(patch, [], context, desk.sandbox) == Applied("already", ())
    committed(desk.root)
    assert desk.apply(patch) == Applied("already", ())
    assert state(desk.root) == before
    assert context.effects == []


def test_a_conflict_names_the_lines_and_writes_nothing(desk: Desk) -> None:
    def change(folder: Path) -> None:
        edit("app.py", "line 3\n", "mine\n")(folder)
        edit("sub/one.py", "one\n", "uno\n")(folder)
        (folder / "gone.py").unlink()
        (folder / "new.py").write_text("mine\n")

    patch = desk.patch(change)
    edit("app.py", "line 3\n", "yours\n")(desk.root)
    edit("gone.py", "gone\n", "still here\n")(desk.root)
    (desk.root / "new.py").write_text("yours\n")
    before = state(desk.root)
    context = desk.context()
    ended = apply(patch, [], context, desk.sandbox)
    assert isinstance(ended, Conflict)
    assert ended.reason == "does not apply: 3 files conflict"
    told = {conflict["path"]: conflict for conflict in ended.as_json()}
    assert sorted(told) == ["app.py", "gone.py", "new.py"]
    hunks = told["app.py"]["hunks"]
    assert "@@ line 1 @@" in hunks
    assert "yours\n=======\nmine\n" in hunks
    assert "line 10" not in hunks
    assert "deletes it" in told["gone.py"]["reason"]
    assert "-gone" in told["gone.py"]["hunks"]
    assert state(desk.root) == before
    assert context.effects == []


def test_what_another_wrote_before_the_effect_was_granted_stays(desk: Desk) -> None:
    patch = desk.patch(edit("app.py", "line 3\n", "mine\n"))
    context = desk.context()
    context.at_effect = lambda: edit("app.py", "line 12\n", "yours\n")(desk.root)
    assert apply(patch, [], context, desk.sandbox) == Applied("applied", ("app.py",))
    expected = LINES.replace("line 3\n", "mine\n").replace("line 12\n", "yours\n")
    assert (desk.root / "app.py").read_text() == expected


def test_what_changes_before_the_effect_is_granted_is_seen(desk: Desk) -> None:
    patch = desk.patch(edit("app.py", "line 3\n", "mine\n"))
    context = desk.context()
    context.at_effect = lambda: edit("app.py", "line 3\n", "yours\n")(desk.root)
    assert isinstance(apply(patch, [], context, desk.sandbox), Conflict)
    assert "mine" not in (desk.root / "app.py").read_text()


def test_a_lost_lease_writes_nothing(desk: Desk) -> None:
    patch = desk.patch(edit("app.py", "line 3\n", "mine\n"))
    before = state(desk.root)
    context = desk.context()
    context.lost = True
    with pytest.raises(EffectRefused):
        apply(patch, [], context, desk.sandbox)
    assert state(desk.root) == before


def test_line_ends_of_the_workspace_are_kept(desk: Desk) -> None:
    patch = desk.patch(edit("app.py", "line 3\n", "three\n"))
    (desk.root / "app.py").write_bytes(LINES.replace("\n", "\r\n").encode())
    assert desk.apply(patch) == Applied("applied", ("app.py",))
    expected = LINES.replace("line 3\n", "three\n").replace("\n", "\r\n")
    assert (desk.root / "app.py").read_bytes() == expected.encode()
    (desk.root / ".gitattributes").write_text("*.bat text eol=crlf\n")
    (desk.root / "run.bat").write_bytes(b"echo 1\r\necho 2\r\n")
    committed(desk.root)
    patch = desk.patch(lambda folder: (folder / "run.bat").write_bytes(b"echo 1\r\necho 3\r\n"))
    assert desk.apply(patch) == Applied("applied", ("run.bat",))
    assert (desk.root / "run.bat").read_bytes() == b"echo 1\r\necho 3\r\n"


def test_a_patch_after_its_predecessors(desk: Desk) -> None:
    first = desk.patch(edit("app.py", "line 3\n", "three\n"))
    start: list[JSON] = [{"base_commit": first.base_commit, "patch": first.text}]
    second = desk.patch(edit("app.py", "line 12\n", "twelve\n"), start)
    assert "three" not in second.text.replace(" three", "")
    # The predecessor's is still to be reviewed.
    assert desk.apply(second, start) == Applied("applied", ("app.py",))
    assert desk.apply(first) == Applied("applied", ("app.py",))
    expected = LINES.replace("line 3\n", "three\n").replace("line 12\n", "twelve\n")
    assert (desk.root / "app.py").read_text() == expected
    same = desk.patch(edit("app.py", "three\n", "drei\n"), start)
    assert desk.apply(same, start) == Applied("applied", ("app.py",))
    git(desk.root, "checkout", "-q", "app.py")
    assert isinstance(desk.apply(same, start), Conflict)


def test_a_folder_without_a_repository(project: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    (project / "app.py").write_text(LINES)
    desk = Desk(project, sandbox, tmp_path)
    context = desk.context()
    with OwnCopy.opened(context, sandbox, []) as copy:
        edit("app.py", "line 3\n", "three\n")(copy.folder)
        (copy.folder / "new.py").write_text("new\n")
        patch = copy.diff()
        # What it began from is known in the attempt: lines beside its own may have changed.
        edit("app.py", "line 5\n", "five\n")(project)
        assert apply(patch, [], context, sandbox) == Applied("applied", ("app.py", "new.py"))
    expected = LINES.replace("line 3\n", "three\n").replace("line 5\n", "five\n")
    assert (project / "app.py").read_text() == expected
    # Later nobody knows it, and the lines around decide.
    later = desk.patch(edit("app.py", "line 12\n", "twelve\n"))
    edit("app.py", "line 1\n", "first\n")(project)
    assert desk.apply(later) == Applied("applied", ("app.py",))
    assert desk.apply(later) == Applied("already", ())
    other = desk.patch(edit("app.py", "line 20\n", "20\n"))
    edit("app.py", "line 20\n", "twenty\n")(project)
    ended = desk.apply(other)
    assert isinstance(ended, Conflict)
    assert "+20" in ended.as_json()[0]["hunks"]
    with OwnCopy.opened(desk.context(), sandbox, []) as copy:
        assert sorted(path.name for path in copy.folder.iterdir()) == ["app.py", "new.py"]


def test_a_workspace_inside_a_repository(desk: Desk) -> None:
    desk.root = desk.root / "sub"
    patch = desk.patch(edit("one.py", "one\n", "uno\n"))
    assert [file.path for file in patch.files] == ["one.py"]
    assert desk.apply(patch) == Applied("applied", ("one.py",))
    assert (desk.root / "one.py").read_text() == "uno\n"
    assert desk.apply(patch) == Applied("already", ())


def hostile(path: str, mode: str = "100644") -> str:
    blob = "1" * 40
    return (
        f"diff --git a/{path} b/{path}\nnew file mode {mode}\n"
        f"index {'0' * 40}..{blob}\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+evil\n"
    )


@pytest.mark.parametrize(
    "path", [".git/hooks/post-checkout", "../outside", "sub/../../outside", ".GIT/config", "/etc/x"]
)
def test_a_patch_reaches_only_into_the_workspace(desk: Desk, path: str) -> None:
    before = state(desk.root.parent)
    ended = desk.apply(Patch(hostile(path), ""))
    assert isinstance(ended, Conflict)
    assert {k: v for k, v in state(desk.root.parent).items() if "attempt" not in k} == before


def test_links_are_neither_made_nor_followed(desk: Desk, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    assert isinstance(desk.apply(Patch(hostile("link", "120000"), "")), Conflict)
    patch = desk.patch(edit("sub/one.py", "one\n", "uno\n"))
    (desk.root / "sub").rename(outside / "sub")
    (desk.root / "sub").symlink_to(outside / "sub")
    ended = desk.apply(patch)
    assert isinstance(ended, Conflict)
    assert "not a plain folder" in ended.as_json()[0]["reason"]
    (desk.root / "sub").unlink()
    (desk.root / "sub").mkdir()
    (desk.root / "sub" / "one.py").symlink_to(outside / "sub" / "one.py")
    ended = desk.apply(patch)
    assert isinstance(ended, Conflict)
    assert "link" in ended.as_json()[0]["reason"]
    assert (outside / "sub" / "one.py").read_text() == "one\n"


@pytest.mark.parametrize("text", ["no patch", "diff --git a/x b/x\n@@ nonsense\n"])
def test_a_text_that_is_no_patch_is_a_conflict(desk: Desk, text: str) -> None:
    ended = desk.apply(Patch(text, ""))
    assert isinstance(ended, Conflict)
    assert "cannot be read" in ended.as_json()[0]["reason"]


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


def test_what_is_written_belongs_to_the_workspaces_owner(desk: Desk) -> None:
    owner = (1234, 1234) if os.getuid() == 0 else (os.getuid(), os.getgid())
    for path in [desk.root, *desk.root.rglob("*")]:
        os.chown(path, *owner, follow_symlinks=False)

    def change(folder: Path) -> None:
        assert (folder.stat().st_uid, folder.stat().st_gid) == owner
        edit("app.py", "line 3\n", "three\n")(folder)
        (folder / "made").mkdir()
        (folder / "made" / "new.py").write_text("new\n")

    patch = desk.patch(change)
    assert desk.apply(patch) == Applied("applied", ("app.py", "made/new.py"))
    found = [path.stat() for path in desk.root.rglob("*")]
    assert {(file.st_uid, file.st_gid) for file in found} == {owner}


def test_a_file_that_somebody_changed_after_the_kill_is_left_alone(tmp_path: Path) -> None:
    from agents.coding import journal
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
    assert child.wait(20) == -9
    (root / "a.txt").write_bytes(b"edited by hand")
    journal.recover(root)
    files = journal_kills.files(root)
    assert files == {"a.txt": b"edited by hand", "made/deep/c.txt": b"new c"}
    kept = next((root / ".git" / "ollama-coder").glob("left-*"))
    assert b"new a" in {path.read_bytes() for path in kept.iterdir()}


def test_an_empty_patch_changes_nothing(desk: Desk) -> None:
    patch = desk.patch(lambda _folder: None)
    assert patch.is_empty
    assert desk.apply(patch) == Applied("already", ())


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


def test_the_processor_tells_how_it_ended(desk: Desk) -> None:
    patch = desk.patch(edit("app.py", "line 3\n", "three\n"))
    processor = ApplyProcessor()
    payload = processor.validate(
        {"task": "t", "patch": patch.text, "base_commit": patch.base_commit, "start": []}, {}
    )
    assert processor.run(payload, desk.context()) == Succeeded(
        {"applied": "applied", "files": ["app.py"]}
    )
    assert processor.run(payload, desk.context()) == Succeeded({"applied": "already", "files": []})
    edit("app.py", "three\n", "drei\n")(desk.root)
    ended = processor.run(payload, desk.context())
    assert isinstance(ended, Rejected)
    assert ended.reason == "does not apply: 1 file conflicts"
    assert ended.result["conflicts"][0]["path"] == "app.py"
    for wrong in ({"patch": 1}, {"start": [{"patch": ""}]}, {"base_commit": None}):
        with pytest.raises(PayloadError):
            processor.validate({**payload, **wrong}, {})

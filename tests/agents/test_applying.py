"""A patch in the workspace: all of it or nothing, once, around what others changed meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agents.coding.applying import Applied, Conflict, apply
from agents.coding.own_copy import OwnCopy
from agents.coding.patch import Patch
from agents.contract import (
    JSON,
    PayloadError,
    Rejected,
    Succeeded,
)
from agents.processors.apply import ApplyProcessor
from agents.sandbox import Sandbox
from tests.agents.desk import (
    LINES,
    Desk,
    committed,
    desk,
    edit,
    git,
    repository,
    sandbox,
    state,
)

__all__ = ["desk", "repository", "sandbox"]


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
        desk.edited("app.py", "line 3\n", "3\n"),
        desk.edited("app.py", "line 12\n", "12\n"),
    )
    edit("app.py", "line 20\n", "twenty\n")(desk.root)
    assert desk.apply(one) == desk.apply(two) == Applied("applied", ("app.py",))
    expected = LINES.replace("line 3\n", "3\n").replace("line 12\n", "12\n")
    assert (desk.root / "app.py").read_text() == expected.replace("line 20\n", "twenty\n")


def test_a_patch_that_is_there_is_not_applied_twice(desk: Desk) -> None:
    patch = desk.edited("app.py", "line 20\n", "line 20\nline 20\n")
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


def test_line_ends_of_the_workspace_are_kept(desk: Desk) -> None:
    patch = desk.edited("app.py", "line 3\n", "three\n")
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
    first = desk.edited("app.py", "line 3\n", "three\n")
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
    "path",
    [
        ".git/hooks/post-checkout",
        "../outside",
        "sub/../../outside",
        ".GIT/config",
        "/etc/x",
        ".ollama-coder-workspace",
    ],
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
    patch = desk.edited("sub/one.py", "one\n", "uno\n")
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


def test_an_empty_patch_changes_nothing(desk: Desk) -> None:
    patch = desk.patch(lambda _folder: None)
    assert patch.is_empty
    assert desk.apply(patch) == Applied("already", ())


def test_the_processor_tells_how_it_ended(desk: Desk) -> None:
    patch = desk.edited("app.py", "line 3\n", "three\n")
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

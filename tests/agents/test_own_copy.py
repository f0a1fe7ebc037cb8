"""An attempt's own copy: what is in it, what its patch says, and what is left of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agents.bubblewrap import View
from agents.coding.git import ChangeRefused, StartConflict
from agents.contract import JSON, Environment, Workspace
from agents.limits import SandboxSettings
from agents.sandbox import Held, Sandbox
from tests.agents.conftest import RecordingContext
from tests.agents.desk import (
    committed,
    desk,
    git,
    in_sandbox,
    is_untouched,
    opened,
    repository,
    sandbox,
    worktrees,
)

__all__ = ["desk", "repository", "sandbox"]


def test_it_is_the_base_commit_and_nothing_else(
    context: RecordingContext, sandbox: Sandbox, repository: Path
) -> None:
    (repository / "app.py").write_text("not committed\n")
    with opened(context, sandbox) as copy:
        assert copy.base_commit == git(repository, "rev-parse", "HEAD")
        assert sorted(path.name for path in copy.folder.iterdir()) == [
            ".gitignore", "app.py", "run.sh", "src",
        ]  # fmt: skip
        assert (copy.folder / "app.py").read_text() == "one\ntwo\nthree\n"
        assert (copy.folder / "run.sh").stat().st_mode & 0o777 == 0o755
        assert copy.folder.stat().st_uid == sandbox.user_for(repository)[0]
        assert worktrees(repository) == 1
        assert copy.diff().is_empty
    (repository / "app.py").write_text("one\ntwo\nthree\n")
    assert is_untouched(repository)


def test_commands_work_at_the_workspaces_own_path_without_its_repository(
    context: RecordingContext, sandbox: Sandbox, repository: Path
) -> None:
    (repository / "node_modules").mkdir()
    (repository / "node_modules" / "lib.js").write_text("there")
    with opened(context, sandbox) as copy:
        code = (
            "import os; print(os.getcwd(), os.path.exists('.git'), open('node_modules/lib.js')"
            ".read()); open('app.py', 'w').write('new\\n')"
        )
        assert in_sandbox(sandbox, copy, code).split() == [str(repository), "False", "there"]
        assert [file.path for file in copy.diff().files] == ["app.py"]
    assert (repository / "app.py").read_text() == "one\ntwo\nthree\n"


def test_the_patch_tells_everything_that_changed(
    context: RecordingContext, sandbox: Sandbox, repository: Path
) -> None:
    (repository / "latin.txt").write_bytes("Größe\n".encode("latin-1"))
    (repository / "gone.py").write_text("x\n")
    committed(repository)
    with opened(context, sandbox) as copy:
        code = """
import os
open("app.py", "w").write("one\\n2\\nthree\\n")
open("latin.txt", "wb").write(b"Gr\\xf6\\xdfer\\n")
open("größe 名.txt", "w").write("crlf\\r\\n")
open("data.bin", "wb").write(bytes(range(256)))
open("late-nul.txt", "wb").write(b"a\\n" * 9000 + b"\\0\\n")
open("debug.log", "w").write("ignored")
os.makedirs("src/__pycache__"); open("src/__pycache__/deep.pyc", "w").write("x")
os.remove("gone.py"); os.chmod("run.sh", 0o644)
"""
        in_sandbox(sandbox, copy, code)
        patch = copy.diff()
        files = {file.path: (file.status, file.added, file.removed) for file in patch.files}
        assert files == {
            "app.py": ("modified", 1, 1),
            "data.bin": ("added", 0, 0),
            "gone.py": ("deleted", 0, 1),
            "größe 名.txt": ("added", 1, 0),
            "late-nul.txt": ("added", 9001, 0),
            "latin.txt": ("modified", 1, 1),
            "run.sh": ("modified", 0, 0),
        }
        assert "\0" not in patch.text
        assert len(patch.sections()) == 7
        with copy.fresh(patch) as after:
            for path in files:
                changed, mine = after.folder / path, copy.folder / path
                assert changed.exists() == mine.exists()
                if mine.exists():
                    assert changed.read_bytes() == mine.read_bytes()
                    assert changed.stat().st_mode == mine.stat().st_mode
        target = repository.parent / "clone"
        git(repository, "clone", "-q", str(repository), str(target))
        (target.parent / "changes.patch").write_bytes(patch.text.encode())
        git(target, "apply", "--index", "../changes.patch")
        assert (target / "latin.txt").read_bytes() == "Größer\n".encode("latin-1")
    assert is_untouched(repository)


def test_a_clean_checkout_takes_the_patch_without_some_paths(
    context: RecordingContext, sandbox: Sandbox, repository: Path
) -> None:
    with opened(context, sandbox) as copy:
        in_sandbox(
            sandbox,
            copy,
            "for n in ('app.py', 'src/deep.py', 'new[1].py'): open(n, 'w').write('changed\\n')",
        )
        patch = copy.diff()
        with copy.fresh() as before, copy.fresh(patch, without=["src/deep.py", "new[1].py"]) as one:
            assert before.view.source == before.folder != copy.folder
            assert before.view.root == repository
            assert (before.folder / "app.py").read_text() == "one\ntwo\nthree\n"
            assert (one.folder / "app.py").read_text() == "changed\n"
            assert (one.folder / "src" / "deep.py").read_text() == "deep\n"
            assert not (one.folder / "new[1].py").exists()
        assert not before.folder.exists()


def test_it_begins_from_what_its_predecessors_left(
    context: RecordingContext, sandbox: Sandbox, repository: Path
) -> None:
    start: list[JSON] = []
    for number, word in enumerate(("2", "II")):
        context.folder = context.folder.parent / f"attempt-{number}"
        with opened(context, sandbox, start) as copy:
            (copy.folder / "app.py").write_text(f"one\n{word}\nthree\n")
            (copy.folder / f"new-{number}.py").write_text("new\n")
            patch = copy.diff()
        assert len(patch.files) == 2
        start.append({"base_commit": patch.base_commit, "patch": patch.text})
    # Meanwhile somebody keeps the first patch, and goes on.
    (repository / "app.py").write_text("zero\none\n2\nthree\n")
    (repository / "new-0.py").write_text("new\n")
    committed(repository)
    context.folder = context.folder.parent / "attempt-3"
    with opened(context, sandbox, start) as copy:
        assert copy.base_commit == start[0]["base_commit"]
        assert (copy.folder / "app.py").read_text() == "one\nII\nthree\n"
        assert (copy.folder / "new-1.py").exists()
        assert copy.diff().is_empty
    unknown = [{**entry, "base_commit": "0" * 40} for entry in start]
    context.folder = context.folder.parent / "attempt-4"
    with opened(context, sandbox, unknown) as copy:
        assert copy.base_commit == git(repository, "rev-parse", "HEAD")
        assert (copy.folder / "app.py").read_text() == "zero\none\nII\nthree\n"
    clash = {**unknown[1], "patch": str(unknown[1]["patch"]).replace("+II", "+other")}
    context.folder = context.folder.parent / "attempt-5"
    with (
        pytest.raises(StartConflict, match="predecessor 3 of 3") as caught,
        opened(context, sandbox, [*unknown, clash]),
    ):
        pass
    assert caught.value.conflicts
    assert is_untouched(repository)


def test_a_workspace_inside_a_repository_sees_its_own_folder(
    context: RecordingContext, sandbox: Sandbox, repository: Path
) -> None:
    inner = repository / "packages" / "one"
    (inner / "lib").mkdir(parents=True)
    (inner / "lib" / "code.py").write_text("code\n")
    committed(repository)
    context.workspace = Workspace("inner", inner, Environment())
    with opened(context, sandbox) as copy:
        assert [path.name for path in copy.folder.iterdir()] == ["lib"]
        assert not (copy.folder / "../../app.py").exists()
        in_sandbox(
            sandbox,
            copy,
            "for n in ('lib/code.py', 'new.py', 'debug.log'): open(n, 'w').write('changed\\n')",
        )
        patch = copy.diff()
        assert [file.path for file in patch.files] == ["lib/code.py", "new.py"]
        with copy.fresh(patch, without=["new.py"]) as clean:
            assert (clean.folder / "lib" / "code.py").read_text() == "changed\n"
            assert not (clean.folder / "new.py").exists()
    assert is_untouched(repository)


def test_a_folder_that_is_no_repository_is_copied(
    context: RecordingContext, sandbox: Sandbox, project: Path
) -> None:
    for name in ("app.py", ".venv/lib/x.py", "node_modules/x.js", "vendor/.git/HEAD"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("old\n")
    (project / "vendor" / "kept.py").write_text("old\n")
    (project / "__pycache__").mkdir()
    (project / "__pycache__" / "x.pyc").write_text("old")
    (project / ".venv" / "bin").mkdir()
    (project / ".ollama-coder-workspace").write_text("its id")
    with opened(context, sandbox) as copy:
        assert copy.base_commit == ""
        assert not (copy.folder / "node_modules").exists()
        assert not (copy.folder / ".venv").exists()
        assert not (copy.folder / ".ollama-coder-workspace").exists()
        code = (
            "for n in ('app.py', 'new.py', '__pycache__/x.pyc', 'vendor/kept.py',"
            " '.ollama-coder-workspace'):"
            " open(n, 'w').write('new\\n')"
        )
        in_sandbox(sandbox, copy, code)
        patch = copy.diff()
        assert [file.path for file in patch.files] == ["app.py", "new.py", "vendor/kept.py"]
        with copy.fresh(patch, without=["app.py"]) as clean:
            assert (clean.folder / "app.py").read_text() == "old\n"
            assert (clean.folder / "vendor" / "kept.py").read_text() == "new\n"
    assert not (project / "new.py").exists()
    assert not (project / ".git").exists()
    start: list[JSON] = [{"base_commit": "", "patch": patch.text}]
    context.folder = context.folder.parent / "next"
    (project / "app.py").write_text("new\n")
    with opened(context, sandbox, start) as copy:
        assert (copy.folder / "new.py").read_text() == "new\n"
        assert copy.diff().is_empty


def test_it_works_where_only_limits_hold(
    context: RecordingContext, root: Path, bubblewrap: Held
) -> None:
    sandbox = Sandbox(Held("rlimits", "asked for by a test"), SandboxSettings())
    git(root, "init", "-q")
    (root / "app.py").write_text("one\n")
    committed(root)
    context.workspace = Workspace("open", root, Environment())
    context.folder = root.parent / f"{root.name}-attempt"
    context.folder.mkdir(mode=0o755)
    with opened(context, sandbox) as copy:
        (copy.folder / "app.py").write_text("changed\n")
        assert [file.path for file in copy.diff().files] == ["app.py"]
        assert View(root, copy.folder, writable=True) == copy.view
    assert is_untouched(root)


def test_a_nested_repository_is_kept_as_files(
    context: RecordingContext, sandbox: Sandbox, repository: Path
) -> None:
    for commit in (False, True):
        context.folder = context.folder.parent / f"attempt-{commit}"
        with opened(context, sandbox) as copy:
            nested = copy.folder / "nested"
            nested.mkdir()
            git(nested, "init", "-q")
            (nested / "code.py").write_text("x\n")
            if commit:
                committed(nested)
            assert [file.path for file in copy.diff().files] == ["nested/code.py"]


def test_a_change_that_no_patch_can_hold_is_refused_in_words(
    context: RecordingContext, sandbox: Sandbox, repository: Path
) -> None:
    with opened(context, sandbox) as copy:
        (copy.folder / ".GIT").mkdir()
        (copy.folder / ".GIT" / "config").write_text("x")
        with pytest.raises(ChangeRefused, match=r"\.GIT/config"):
            copy.diff()
        (copy.folder / ".GIT" / "config").unlink()
        (copy.folder / os.fsdecode(b"bad\xff")).write_text("x")
        with pytest.raises(ChangeRefused, match="not valid UTF-8"):
            copy.diff()
    assert is_untouched(repository)

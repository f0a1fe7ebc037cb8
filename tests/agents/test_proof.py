"""What a patch does to the check is shown on clean checkouts, by tests it did not write."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agents.coding.check_files import decides_the_check
from agents.coding.checking import run_check
from agents.coding.enclosure import Enclosure
from agents.coding.lint import Findings
from agents.coding.own_copy import OwnCopy
from agents.coding.proof import Proof, prove
from agents.coding.refusals import Blocked
from agents.command_run import Ground
from tests.agents.conftest import RecordingContext
from tests.agents.enclosing import BARE, as_repository, enclosed

PYTEST = ["pytest", "-q", "-p", "no:cacheprovider"]
WRONG = "def add(a, b):\n    return a - b\n\ndef sub(a, b):\n    return a - b\n"
RIGHT = WRONG.replace("a - b", "a + b", 1)
TESTS = (
    "from app import add, sub\n\ndef test_add():\n    assert add(2, 2) == 4\n\n"
    "def test_sub():\n    assert sub(5, 2) == 3\n\ndef test_zero():\n    assert add(0, 0) == 0\n"
)
ADD, SUB, ZERO = (f"tests/test_app.py::test_{name}" for name in ("add", "sub", "zero"))

Edit = Callable[[Path], object]


@pytest.fixture
def broken(project: Path) -> Path:
    """A project with one red test of three."""
    (project / "app.py").write_text(WRONG)
    (project / "conftest.py").write_text("import sys\nsys.dont_write_bytecode = True\n")
    (project / "pyproject.toml").write_text("[tool.pytest.ini_options]\npythonpath = ['.']\n")
    (project / "Makefile").write_text(f"test:\n\t{' '.join(PYTEST)}\n")
    (project / ".gitignore").write_text("*.log\n")
    (project / "tests").mkdir()
    (project / "tests" / "test_app.py").write_text(TESTS)
    return project


@contextmanager
def copied(context: RecordingContext) -> Iterator[tuple[OwnCopy, Enclosure]]:
    assert context.workspace is not None
    context.workspace = replace(context.workspace, environment=BARE)
    ground = Ground.of_attempt(".", context)
    with OwnCopy.opened(context, ground.sandbox, []) as copy:
        yield copy, Enclosure(ground, copy.view, copy.mounts, context)


def proven(context: RecordingContext, edit: Edit, argv: list[str] = PYTEST) -> Proof:
    """The proof of what ``edit`` does to a copy of the workspace."""
    with copied(context) as (copy, enclosure):
        edit(copy.folder)
        return prove(copy, copy.diff(), argv, enclosure)


def fix(copy: Path) -> None:
    (copy / "app.py").write_text(RIGHT)


def test_a_fix_is_proven_case_by_case(context: RecordingContext, broken: Path) -> None:
    as_repository(broken)
    proof = proven(context, fix)
    assert proof.ok
    assert proof.cases is not None
    assert proof.cases.as_json() == {
        "fixed": [ADD], "fixed_total": 1, "broken": [], "broken_total": 0,
        "still_red": [], "still_red_total": 0, "unchanged": 2,
    }  # fmt: skip
    told = proof.as_json()
    assert (told["before"]["ok"], told["before"]["reason"]) == (False, "1 failed of 3")
    assert (told["after"]["ok"], told["after"]["exit_code"]) == (True, 0)
    assert told["edited"] is None
    assert (broken / "app.py").read_text() == WRONG


def test_a_folder_that_is_no_repository_is_proven_too(
    context: RecordingContext, broken: Path
) -> None:
    proof = proven(context, fix)
    assert proof.ok
    assert proof.cases is not None
    assert proof.cases.fixed == [ADD]


def test_what_a_patch_breaks_is_named(context: RecordingContext, broken: Path) -> None:
    as_repository(broken)
    proof = proven(context, lambda copy: (copy / "app.py").write_text(
        "def add(a, b):\n    return a + b\n\ndef sub(a, b):\n    return 0\n"))  # fmt: skip
    assert proof.reason == "1 failed of 3"
    assert proof.cases is not None
    assert (proof.cases.fixed, proof.cases.broken) == ([ADD], [SUB])


def of_same_name(folder: Path, other: Path) -> set[Path]:
    return {other / path.relative_to(folder) for path in folder.rglob("*")}


def rewrite_the_test(copy: Path) -> None:
    (copy / "tests" / "test_app.py").write_text(TESTS.replace("== 4", "== 0"))


def delete_the_test(copy: Path) -> None:
    (copy / "tests" / "test_app.py").unlink()
    (copy / "test_new.py").write_text("def test_new():\n    assert True\n")


def deselect_by_a_hook(copy: Path) -> None:
    hook = "def pytest_collection_modifyitems(items):\n    items.clear()\n"
    (copy / "conftest.py").write_text(hook)
    (copy / "tests" / "conftest.py").write_text(hook)


def deselect_by_settings(copy: Path) -> None:
    settings = "[tool.pytest.ini_options]\naddopts = '-k sub'\npythonpath = ['.']\n"
    (copy / "pyproject.toml").write_text(settings)
    (copy / "pytest.ini").write_text("[pytest]\naddopts = -k sub\n")


def put_another_pytest_first(copy: Path) -> None:
    (copy / "pytest.py").write_text("raise SystemExit(0)\n")
    (copy / "_pytest").mkdir()
    (copy / "_pytest" / "__init__.py").write_text("")


def plant_a_plugin(copy: Path) -> None:
    info = copy / "evil-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pytest11]\nevil = evil\n")


REWRITES = (
    rewrite_the_test,
    delete_the_test,
    deselect_by_a_hook,
    deselect_by_settings,
    put_another_pytest_first,
    plant_a_plugin,
)


def test_rewriting_the_check_does_not_pass_it(context: RecordingContext, broken: Path) -> None:
    as_repository(broken)
    argv = ["python", "-m", *PYTEST]
    with copied(context) as (copy, enclosure):
        before = run_check(enclosure, argv)
        untouched = context.workdir / "untouched"
        shutil.copytree(copy.folder, untouched)
        for rewrite in REWRITES:
            shutil.copytree(untouched, copy.folder, dirs_exist_ok=True)
            rewrite(copy.folder)
            proof = prove(copy, copy.diff(), argv, enclosure, before)
            for added in set(copy.folder.rglob("*")) - of_same_name(untouched, copy.folder):
                shutil.rmtree(added) if added.is_dir() else added.unlink(missing_ok=True)
            assert not proof.ok, rewrite
            assert proof.edited, rewrite
            assert proof.cases is not None
            assert (proof.cases.still_red, proof.cases.unchanged) == ([ADD], 2), rewrite


def test_a_check_that_is_no_pytest_cannot_be_rewritten_either(
    context: RecordingContext, broken: Path
) -> None:
    as_repository(broken)
    proof = proven(
        context, lambda copy: (copy / "Makefile").write_text("test:\n\ttrue\n"), ["make", "test"]
    )
    assert proof.own is not None
    assert proof.own.ok
    assert proof.reason == "make: exit code 2 (with the tests as they were before the patch)"
    assert proof.cases is None
    assert proven(context, fix, ["make", "test"]).ok


def test_code_that_silences_tests_is_seen(context: RecordingContext, broken: Path) -> None:
    (broken / "app.py").write_text(RIGHT)
    as_repository(broken)
    silence = RIGHT.replace("return a + b", "import pytest; pytest.skip('no')")
    proof = proven(context, lambda copy: (copy / "app.py").write_text(silence))
    assert proof.after.ok
    assert proof.reason == f"2 tests that passed before do not any more, such as {ADD}, {ZERO}"
    assert proof.cases is not None
    assert proof.cases.broken == [ADD, ZERO]


def test_the_patch_s_own_tests_are_run_and_told_apart(
    context: RecordingContext, broken: Path
) -> None:
    as_repository(broken)
    new = "from app import add\n\ndef test_more():\n    assert add(1, 2) == {}\n"

    def with_tests(expected: int) -> Edit:
        def edit(copy: Path) -> None:
            fix(copy)
            (copy / "tests" / "test_more.py").write_text(new.format(expected))

        return edit

    proof = proven(context, with_tests(3))
    assert proof.ok
    assert (proof.edited, len(proof.after.cases or {})) == (["tests/test_more.py"], 3)
    assert proof.own is not None
    assert list(proof.own.cases or {}) == ["tests/test_more.py::test_more"]
    red = proven(context, with_tests(4))
    assert red.reason == "with the patch's own changes to the tests: 1 failed of 1"
    assert red.after.ok


@pytest.mark.parametrize("argv", [PYTEST, [*PYTEST, "tests/test_app.py"]])
def test_where_there_were_no_tests_those_of_the_patch_count(
    context: RecordingContext, project: Path, argv: list[str]
) -> None:
    (project / "app.py").write_text(RIGHT)
    (project / "pyproject.toml").write_text("[tool.pytest.ini_options]\npythonpath = ['.']\n")
    as_repository(project)

    def write_tests(copy: Path) -> None:
        (copy / "tests").mkdir()
        (copy / "tests" / "test_app.py").write_text(TESTS)

    proof = proven(context, write_tests, argv)
    assert proof.ok
    assert proof.before.found_no_tests
    assert proof.after.found_no_tests


def test_no_tests_at_all_prove_nothing(context: RecordingContext, project: Path) -> None:
    (project / "app.py").write_text(RIGHT)
    as_repository(project)
    proof = proven(context, lambda copy: (copy / "app.py").write_text(WRONG))
    assert proof.reason == "no tests were collected in the project"


def test_a_module_that_can_be_collected_again_is_fixed(
    context: RecordingContext, broken: Path
) -> None:
    (broken / "app.py").write_text("def add(a, b:\n")
    as_repository(broken)
    proof = proven(context, fix)
    assert proof.ok
    assert proof.cases is not None
    assert proof.cases.fixed == ["tests/test_app.py"]


def test_only_what_is_in_the_patch_counts(context: RecordingContext, broken: Path) -> None:
    lucky = "return a + b if pathlib.Path('state.log').exists() else 9"
    (broken / "app.py").write_text(f"import pathlib\n{WRONG.replace('return a - b', lucky, 1)}")
    as_repository(broken)
    with copied(context) as (copy, enclosure):
        (copy.folder / "state.log").write_text("ignored by git")
        assert run_check(enclosure, PYTEST).ok
        (copy.folder / "notes.txt").write_text("x\n")
        proof = prove(copy, copy.diff(), PYTEST, enclosure)
    assert not proof.ok
    assert (proof.before.reason, proof.after.reason) == ("2 failed of 3", "2 failed of 3")


def test_findings_are_compared_whatever_their_lines(
    context: RecordingContext, broken: Path
) -> None:
    (broken / "app.py").write_text(f"import os\nimport sys\n{WRONG}")
    (broken / "other.py").write_text("import json\n")
    as_repository(broken)
    proof = proven(context, lambda copy: (copy / "app.py").write_text(
        f"# moved\n\nimport re\nimport sys\n{RIGHT}"))  # fmt: skip
    assert [found["message"]["text"] for found in proof.findings.added] == [
        "`re` imported but unused"
    ]
    assert proof.findings.removed == 1


def test_a_configuration_that_the_linter_refuses_is_said(
    context: RecordingContext, broken: Path
) -> None:
    (broken / "ruff.toml").write_text("no = 'such setting'\n")
    unknown = Findings.of(enclosed(context), ["app.py"])
    change = Findings([]).then(unknown)
    assert "configuration of the linter is wrong" in change.as_json()["skipped"]


def test_a_check_that_does_not_end_proves_nothing(context: RecordingContext, broken: Path) -> None:
    as_repository(broken)
    with copied(context) as (copy, enclosure):
        (copy.folder / "app.py").write_text("while True: pass\n")
        check = run_check(enclosure, PYTEST, timedelta(seconds=1))
    assert check.timed_out
    assert check.reason == "it did not end within 1 s"


def test_a_secret_that_is_moved_comes_into_no_patch(
    context: RecordingContext, broken: Path
) -> None:
    (broken / ".ssh").mkdir()
    (broken / ".ssh" / "config").write_text("hunter2\n")
    as_repository(broken)
    move = "import os\n\ndef test_move():\n    os.rename('.ssh', 'plain')\n"
    with copied(context) as (copy, enclosure):
        (copy.folder / "test_move.py").write_text(move)
        assert run_check(enclosure, [*PYTEST, "test_move.py"]).ok
        patch = copy.diff()
        with pytest.raises(Blocked, match=r"touches \.ssh/config, which holds secrets"):
            enclosure.refuse_secrets(file.path for file in patch.files)


def test_hooks_that_a_command_plants_are_in_no_patch_and_never_run(
    context: RecordingContext, broken: Path
) -> None:
    as_repository(broken)
    hooks = sorted((broken / ".git" / "hooks").iterdir())
    plant = """
import os, pathlib, subprocess
def test_plant():
    subprocess.run(["git", "init", "-q", "."])
    hook = "#!/bin/sh\\ntouch owned\\n"
    for name in ("pre-commit", "post-checkout", "post-index-change", "reference-transaction"):
        planted = pathlib.Path(".git/hooks") / name
        planted.parent.mkdir(parents=True, exist_ok=True)
        planted.write_text(hook)
        planted.chmod(0o755)
    config = pathlib.Path(".git/config")
    runs = "= touch owned\\n"
    config.write_text(f"[core]\\n fsmonitor {runs}[filter \\"x\\"]\\n clean {runs}")
    pathlib.Path(".gitattributes").write_text("* filter=x\\n")
"""
    with copied(context) as (copy, enclosure):
        (copy.folder / "test_plant.py").write_text(plant)
        assert run_check(enclosure, [*PYTEST, "test_plant.py"]).ok
        patch = copy.diff()
        assert [file.path for file in patch.files] == [".gitattributes", "test_plant.py"]
        assert not list(copy.folder.rglob("owned"))
        with copy.fresh(patch) as checkout:
            assert not list(checkout.folder.rglob("owned"))
            assert not (checkout.folder / ".git").exists()
    assert sorted((broken / ".git" / "hooks").iterdir()) == hooks
    assert not list(broken.rglob("owned"))


def test_a_model_is_told_what_is_red(context: RecordingContext, broken: Path) -> None:
    with copied(context) as (_copy, enclosure):
        told = run_check(enclosure, PYTEST).told(2000)
    head, *rest = told.splitlines()
    assert head == f"{' '.join(PYTEST)}: 1 failed of 3"
    assert ADD in rest
    assert any("assert 0 == 4" in line for line in rest)
    assert "test_sub" not in told


def test_paths_that_decide_a_check() -> None:
    deciding = (
        "tests/a.txt", "test_x.py", "src/x_test.py", "a/conftest.py", "Makefile", "pyproject.toml",
        "src/app.test.ts", "pkg/x_test.go", "x.egg-info/entry_points.txt", "sub/Tests/data.json",
    )  # fmt: skip
    assert all(decides_the_check(path) for path in deciding)
    others = ("src/app.py", "contest.py", "src/testing_tools.py", "docs/tests.md", "latest.py")
    assert not any(decides_the_check(path) for path in others)

"""Which environment a workspace's commands run in, and what it shows of the machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.contract import Environment, Rejected, Succeeded, Workspace
from agents.processors.test_run import ModuleRunProcessor
from agents.toolchain import EnvironmentMissing, of_workspace
from tests.agents.conftest import RecordingContext

MakeVirtualenv = Callable[[Path], Path]


@pytest.fixture
def make_virtualenv() -> MakeVirtualenv:
    """Makes a virtualenv with one script, which names its interpreter absolutely as pip's do."""

    def make(folder: Path) -> Path:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        script = folder / "bin" / "tox"
        script.write_text(f"#!{folder}/bin/python\nimport sys; print(sys.prefix, sys.argv[1:])\n")
        script.chmod(0o755)
        return folder

    return make


def run_tox(context: RecordingContext) -> str:
    assert context.workspace is not None
    (context.workspace.root / "test_it.py").write_text("")
    payload = {"path": "test_it.py", "test_command": "tox"}
    outcome = ModuleRunProcessor().run(payload, context)
    assert isinstance(outcome, Succeeded), outcome
    shown: str = outcome.result["output"]["head"]
    return shown.strip()


def test_the_workspace_s_own_virtualenv_is_used(
    context: RecordingContext, project: Path, make_virtualenv: MakeVirtualenv
) -> None:
    make_virtualenv(project / ".venv")
    assert run_tox(context) == f"{project}/.venv ['test_it.py']"


def test_a_named_virtualenv_comes_first(
    context: RecordingContext, project: Path, make_virtualenv: MakeVirtualenv, tmp_path: Path
) -> None:
    make_virtualenv(project / ".venv")
    named = make_virtualenv(tmp_path / "named")
    context.workspace = Workspace("project", project, Environment(virtualenv=str(named)))
    assert run_tox(context) == f"{named} ['test_it.py']"


def test_an_extra_path_and_variables_reach_the_command(
    context: RecordingContext, project: Path, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "tox").write_text('#!/bin/sh\necho "$GREETING from $0"\n')
    (tools / "tox").chmod(0o755)
    environment = Environment(path=(str(tools),), variables={"GREETING": "hello"})
    context.workspace = Workspace("project", project, environment)
    assert run_tox(context) == f"hello from {tools}/tox"


def test_the_console_s_environment_is_the_last_resort(project: Path) -> None:
    toolchain = of_workspace(Workspace("project", project))
    assert toolchain.prefix == Path(sys.prefix)
    assert toolchain.which("pytest") == Path(sys.prefix) / "bin" / "pytest"


def test_a_named_virtualenv_that_is_missing_is_said(project: Path, tmp_path: Path) -> None:
    (project / "test_it.py").write_text("")
    environment = Environment(virtualenv=str(tmp_path / "gone"))
    context = RecordingContext(tmp_path / "a", Workspace("project", project, environment))
    outcome = ModuleRunProcessor().run({"path": "test_it.py", "test_command": "pytest"}, context)
    assert isinstance(outcome, Rejected)
    assert f"names the virtualenv {tmp_path}/gone" in outcome.reason


def test_a_virtualenv_linked_from_the_workspace_is_not_trusted(
    project: Path, make_virtualenv: MakeVirtualenv, tmp_path: Path
) -> None:
    (project / ".venv").symlink_to(make_virtualenv(tmp_path / "elsewhere"))
    with pytest.raises(EnvironmentMissing, match="link that leads out of it"):
        of_workspace(Workspace("project", project))


def test_a_workspace_cannot_show_folders_by_its_pyvenv_cfg(project: Path, tmp_path: Path) -> None:
    private = tmp_path / "private"
    (private / "bin").mkdir(parents=True)
    (private / "lib").mkdir()
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "pyvenv.cfg").write_text(f"home = {private}/bin\n")
    assert of_workspace(Workspace("project", project)).folders() == [project / ".venv"]


def test_pytest_missing_from_the_environment_says_how_to_mend_it(
    context: RecordingContext, project: Path, make_virtualenv: MakeVirtualenv
) -> None:
    make_virtualenv(project / ".venv")
    (project / "test_it.py").write_text("def test_it(): pass\n")
    for command in ("pytest", "python -m pytest"):
        again = RecordingContext(context.folder / command, context.workspace)
        payload = {"path": "test_it.py", "test_command": command}
        outcome = ModuleRunProcessor().run(payload, again)
        assert isinstance(outcome, Rejected)
        assert "pytest is not installed in the workspace's .venv" in outcome.reason

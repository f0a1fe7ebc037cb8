"""What tests of commands need: a recording attempt, a workspace, and a sandbox that holds."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from agents.bubblewrap import Mounts, View
from agents.contract import JSON, Environment, Workspace
from agents.launch import Command
from agents.limits import SandboxSettings
from agents.process import Watch
from agents.sandbox import Finished, Held, Sandbox, probe
from agents.toolchain import of_console
from tests.real_project import real_project

__all__ = ["real_project"]


@dataclass
class RecordingContext:
    """Implements ``ProcessorContext`` and keeps everything it is told."""

    folder: Path
    workspace: Workspace | None
    settings: JSON = field(default_factory=dict)
    timeout: timedelta = timedelta(seconds=50)
    task_id: str = "01890000-0000-7000-8000-000000000000"
    attempt: int = 1
    log: list[JSON] = field(default_factory=list)
    sandboxes: list[str] = field(default_factory=list)
    artefacts: dict[str, str] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    inputs: JSON = field(default_factory=dict)

    @property
    def workdir(self) -> Path:
        made = self.folder / "work"
        made.mkdir(parents=True, exist_ok=True)
        return made

    def remaining(self) -> timedelta:
        return self.timeout - timedelta(seconds=time.monotonic() - self.begun)

    def record(self, event: str, **fields: object) -> None:
        self.log.append({"event": event, **fields})

    def effect(self, name: str, *, exclusive: bool = False) -> None:
        raise AssertionError(f"no processor here changes anything shared, but asked for {name}")

    def artefact(self, name: str, media_type: str) -> Path:
        self.artefacts[name] = media_type
        kept = self.folder / "artefacts"
        kept.mkdir(parents=True, exist_ok=True)
        return kept / name

    def contained_by(self, sandbox: str) -> None:
        self.sandboxes.append(sandbox)

    def kept(self, name: str) -> Path:
        assert name in self.artefacts
        return self.folder / "artefacts" / name


@dataclass
class Bench:
    """Runs commands on one folder, held in one way."""

    held: Held
    root: Path

    def run(
        self,
        *argv: str,
        seconds: float = 20,
        writable: bool = False,
        output: Path | None = None,
        variables: dict[str, str] | None = None,
        mounts: Mounts | None = None,
        watch: Watch = lambda _output: None,
        **settings: int | bool,
    ) -> Finished:
        command = Command(
            argv,
            View(self.root, self.root, writable=writable),
            of_console(),
            output=output,
            mounts=mounts or Mounts(),
            variables=variables or {},
        )
        sandbox = Sandbox(self.held, SandboxSettings.from_settings(settings))
        return sandbox.run(command, timedelta(seconds=seconds), watch)


@pytest.fixture
def bubblewrap() -> Held:
    held = probe()
    if held.kind != "bubblewrap":
        if os.environ.get("CI"):
            pytest.fail(held.reason)
        pytest.skip(held.reason)
    return held


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that every user can reach and write to, which tmp_path is not for root."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder).resolve()


@pytest.fixture
def bench(bubblewrap: Held, root: Path) -> Bench:
    return Bench(bubblewrap, root)


@pytest.fixture(params=["bubblewrap", "rlimits"])
def either_bench(request: pytest.FixtureRequest, root: Path) -> Bench:
    if request.param == "bubblewrap":
        return Bench(request.getfixturevalue("bubblewrap"), root)
    return Bench(Held("rlimits", "asked for by a test"), root)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty workspace with mode 0700, as a careful user has it."""
    made = tmp_path / "project"
    made.mkdir(mode=0o700)
    return made.resolve()


@pytest.fixture
def context(bubblewrap: Held, tmp_path: Path, project: Path) -> RecordingContext:
    return RecordingContext(tmp_path / "attempt", Workspace("project", project, Environment()))

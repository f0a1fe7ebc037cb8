"""Which sandbox holds is found out, told and, where that is asked for, insisted on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.contract import Rejected, Unavailable, Workspace
from agents.limits import SandboxSettings
from agents.processors.validation import ValidationProcessor
from agents.sandbox import Held, Sandbox, SandboxUnavailable, probe
from tests.agents.conftest import RecordingContext


@pytest.fixture
def no_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("PATH", str(tmp_path))
    probe.cache_clear()
    yield
    monkeypatch.undo()
    probe.cache_clear()


@pytest.fixture
def broken_bubblewrap(no_bubblewrap: None, tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)


def attempt(root: Path, **settings: object) -> RecordingContext:
    return RecordingContext(root / "attempt", Workspace("project", root), dict(settings))


def test_bubblewrap_is_told_to_the_attempt(bubblewrap: Held, root: Path) -> None:
    context = attempt(root)
    Sandbox.of_attempt(context, SandboxSettings())
    assert context.sandboxes == ["bubblewrap"]
    assert context.log == []


def test_limits_alone_are_a_loud_warning(no_bubblewrap: None, root: Path) -> None:
    context = attempt(root)
    sandbox = Sandbox.of_attempt(context, SandboxSettings())
    assert sandbox.held.kind == "rlimits"
    assert context.sandboxes == ["rlimits"]
    (line,) = context.log
    assert line["level"] == "warning"
    assert "NOT isolated" in line["message"]
    assert "apt-get install bubblewrap" in line["message"]


def test_a_required_sandbox_is_insisted_on(no_bubblewrap: None, root: Path) -> None:
    context = attempt(root)
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        Sandbox.of_attempt(context, SandboxSettings(require_sandbox=True))
    assert context.sandboxes == []


def test_a_task_waits_for_the_sandbox_it_requires(no_bubblewrap: None, root: Path) -> None:
    (root / "app.py").write_text("")
    processor = ValidationProcessor()
    context = attempt(root, require_sandbox=True)
    outcome = processor.run(processor.validate({"path": "app.py"}, {}), context)
    assert isinstance(outcome, Unavailable)
    assert outcome.resource == "sandbox"
    assert not processor.probe("sandbox", {})


def test_the_wait_ends_once_bubblewrap_works(bubblewrap: Held) -> None:
    assert ValidationProcessor().probe("sandbox", {})


def test_a_bubblewrap_that_fails_is_not_trusted(broken_bubblewrap: None) -> None:
    held = probe()
    assert held.kind == "rlimits"
    assert "No permissions to create new namespace" in held.reason


def test_a_path_is_refused_before_anything_runs(no_bubblewrap: None, root: Path) -> None:
    outcome = ValidationProcessor().run({"path": "gone.py", "checks": ["lint"]}, attempt(root))
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "gone.py does not exist in the workspace"

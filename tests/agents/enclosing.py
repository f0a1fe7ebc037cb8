"""An agent's walls around a copy of the workspace, for tests of what is inside them."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from agents.bubblewrap import Mounts, View
from agents.coding.enclosure import Enclosure
from agents.command_run import Ground
from agents.contract import Environment
from agents.private_copy import private_copy
from tests.agents.conftest import RecordingContext

BARE = Environment(variables={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
"""Without the plugins of whoever runs these tests, each of which takes its time to be loaded."""


def enclosed(
    context: RecordingContext, name: str = "copy", mounts: Mounts | None = None
) -> Enclosure:
    """A copy of the workspace as it is now, owned by whom commands run as."""
    assert context.workspace is not None
    context.workspace = replace(context.workspace, environment=BARE)
    root = context.workspace.root
    ground = Ground.of_attempt(".", context)
    copy = context.workdir / name
    private_copy(root, copy, ground.sandbox.user_for(root))
    return Enclosure(ground, View(root, copy, writable=True), mounts or Mounts(), context)


def as_repository(folder: Path) -> None:
    """Make the folder, as it is now, the first commit of a repository."""
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *identity, *words], cwd=folder, check=True)

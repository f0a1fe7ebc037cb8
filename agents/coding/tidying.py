"""What a killed attempt may have left in its workspace, and who puts it right."""

from __future__ import annotations

from agents.coding import journal, worktrees
from agents.contract import JSON, Workspace
from agents.limits import SandboxSettings
from agents.sandbox import Sandbox, probe


def tidy(workspace: Workspace, settings: JSON) -> None:
    """Finish what was being written, and remove work trees of the dead.

    May be repeated, and harms no attempt that runs.

    Raises:
        RepositoryRefused, GitFailed, OSError: it cannot be done here and now.
    """
    if not workspace.root.is_dir():
        return
    sandbox = Sandbox(probe(), SandboxSettings.from_settings(settings))
    journal.recover(workspace.root)
    worktrees.sweep(workspace.root, sandbox)

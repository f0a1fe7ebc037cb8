"""Applies the patch of an agent's task that a person has read and approved."""

from __future__ import annotations

from agents.coding.applying import Applied, apply
from agents.coding.git import GitFailed, RepositoryRefused
from agents.coding.patch import Patch
from agents.coding.tidying import tidy
from agents.command_run import REFUSALS, SANDBOX, refused
from agents.contract import (
    JSON,
    EffectRefused,
    Outcome,
    PayloadError,
    ProcessorContext,
    Rejected,
    Succeeded,
    TryAgain,
    Workspace,
)
from agents.limits import SandboxSettings
from agents.sandbox import Sandbox, probe


class ApplyProcessor:
    """``{"task", "patch", "base_commit", "start"}``, as the agent's task left it.

    Result: ``{"applied": "applied"|"already", "files"}``, or ``{"applied": "conflict",
    "conflicts"}`` of ``{"path", "reason", "hunks"}``: then nothing was changed.
    """

    recycle_after = 100
    needs_workspace = True

    def validate(self, payload: JSON, settings: JSON) -> JSON:  # noqa: ARG002
        kinds = {"task": str, "patch": str, "base_commit": str, "start": list}
        for field, kind in kinds.items():
            if not isinstance(payload.get(field), kind):
                raise PayloadError(field, f"must be a {kind.__name__}")
        for entry in payload["start"]:
            if not isinstance(entry, dict) or not {"base_commit", "patch"} <= entry.keys():
                raise PayloadError("start", "must be a list of objects with base_commit and patch")
        return {field: payload[field] for field in kinds}

    def replay_safe(self, payload: JSON) -> bool:  # noqa: ARG002 - a patch that is there is seen
        return True

    def resources(self, payload: JSON) -> list[str]:  # noqa: ARG002
        return []

    def probe(self, resource: str, settings: JSON) -> bool:  # noqa: ARG002
        probe.cache_clear()
        return resource == SANDBOX and probe().kind == "bubblewrap"

    def tidy(self, workspace: Workspace, settings: JSON) -> None:
        tidy(workspace, settings)

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:
        try:
            sandbox = Sandbox.of_attempt(context, SandboxSettings.from_settings(context.settings))
            patch = Patch(payload["patch"], payload["base_commit"])
            ended = apply(patch, payload["start"], context, sandbox)
        except REFUSALS as error:
            return refused(error, "")
        except RepositoryRefused as error:
            return Rejected(str(error), {"applied": "none"})
        except (EffectRefused, GitFailed) as error:
            return TryAgain(str(error))
        if isinstance(ended, Applied):
            return Succeeded({"applied": ended.status, "files": list(ended.files)})
        return Rejected(
            ended.reason,
            {"applied": "conflict", "conflicts": ended.as_json(), "files": list(ended.files)},
        )

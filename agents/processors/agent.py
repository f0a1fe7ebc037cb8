"""A coding agent on a language model: changes code in its own copy until its check passes."""

from __future__ import annotations

import shlex

from agents.coding.profile import find
from agents.command_run import SANDBOX
from agents.commands import parse_command
from agents.contract import (
    JSON,
    MODEL_RESOURCE,
    Outcome,
    PayloadError,
    ProcessorContext,
    Workspace,
)
from agents.limits import SandboxSettings
from agents.sandbox import probe

CODER = "qwen2.5-coder:7b"
REVIEWER = "llama3.2"
CHECK = "pytest -q"
LONGEST_DESCRIPTION = 20_000
LONGEST_MODEL_NAME = 190
MOST_LOOPS = 100
DEFAULT_LOOPS = 16


class AgentProcessor:
    """``{"description", "coder_model", "reviewer_model", "check_command", "max_loops",
    "apply_changes"}``; without a reviewer or a check (null) that step is left out.

    ``context.inputs`` is ``{"start": [{"task", "base_commit", "patch"}, …]}``: the patches of the
    tasks it depends on, each before its dependents.

    Result: ``ok``; ``ended`` (approved, passed without a reviewer, check_failed, reviewer_refused,
    blocked, gave_up, unchanged, limit); ``loops``, ``summary`` (the coder's last words),
    ``validator_ok``, ``verdict`` of ``{"approve", "problems"}``, ``blocked`` (how often the
    guardrail said no), ``base_commit``, ``patch`` of ``{"artefact", "sha256", "bytes", "files"}``,
    ``applied`` (applied, already, conflict, pending, none), ``conflicts``, ``check`` and
    ``findings`` (``agents.coding.proof``), ``usage``, ``models``, ``transcript``, ``seconds``.
    """

    recycle_after = 20
    needs_workspace = True

    def validate(self, payload: JSON, settings: JSON) -> JSON:
        reviewer = payload.get("reviewer_model", REVIEWER)
        return {
            "description": _description(payload.get("description")),
            "coder_model": _model("coder_model", payload.get("coder_model", CODER)),
            "reviewer_model": None if reviewer is None else _model("reviewer_model", reviewer),
            "check_command": _check(payload.get("check_command", CHECK), settings),
            "max_loops": _loops(payload.get("max_loops", DEFAULT_LOOPS)),
            "apply_changes": _flag("apply_changes", payload.get("apply_changes", True)),
        }

    def replay_safe(self, payload: JSON) -> bool:  # noqa: ARG002
        """Yes, until the patch is about to be applied: an effect then."""
        return True

    def resources(self, payload: JSON) -> list[str]:
        models = [payload["coder_model"], payload["reviewer_model"]]
        return [MODEL_RESOURCE + name for name in dict.fromkeys(filter(None, models))]

    def probe(self, resource: str, settings: JSON) -> bool | JSON:
        """Of a model, ``{"endpoint", "model", "loaded", "size", "num_ctx", "version"}``."""
        if resource == SANDBOX:
            probe.cache_clear()
            return probe().kind == "bubblewrap"
        # An HTTP client is for the slot only, not for the web process.
        from agents.coding.endpoint import look  # noqa: PLC0415

        return look(find(resource.removeprefix(MODEL_RESOURCE), settings))

    def tidy(self, workspace: Workspace, settings: JSON) -> None:
        from agents.coding.tidying import tidy  # noqa: PLC0415 - as below

        tidy(workspace, settings)

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:
        # The agent's library takes seconds to import: not in the web process.
        from agents.coding.running import run  # noqa: PLC0415

        return run(payload, context)


def _description(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise PayloadError("description", "must say what is to be changed")
    if len(value) > LONGEST_DESCRIPTION:
        raise PayloadError("description", f"must be at most {LONGEST_DESCRIPTION:,} characters")
    return value


def _model(field: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise PayloadError(field, "must be the name of a model, such as qwen2.5-coder:7b")
    if len(value) > LONGEST_MODEL_NAME:
        raise PayloadError(field, f"must be at most {LONGEST_MODEL_NAME} characters")
    return value.strip()


def _check(value: object, settings: JSON) -> str | None:
    if value is None:
        return None
    allowed = SandboxSettings.from_settings(settings).allowed_commands
    return shlex.join(parse_command(value, allowed, "check_command"))


def _loops(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_LOOPS:
        raise PayloadError("max_loops", f"must be a whole number from 1 to {MOST_LOOPS}")
    return value


def _flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise PayloadError(field, "must be true or false")
    return value

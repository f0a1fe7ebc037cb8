"""Checks one file or folder of a workspace, which its tools see read-only."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TypeAlias

from agents.bubblewrap import View
from agents.checks import (
    CHECKS,
    DEFAULT_CHECKS,
    INVALID_SYNTAX,
    Misconfigured,
    OutOfTime,
    OutputTooLarge,
    Target,
    ToolFailed,
    Tools,
)
from agents.command_run import (
    REFUSALS,
    SANDBOX,
    Ground,
    cut_short,
    end_of,
    refused,
    run_command,
    time_for_commands,
)
from agents.commands import for_path, parse_command
from agents.contract import (
    JSON,
    LimitReached,
    Outcome,
    PayloadError,
    ProcessorContext,
    Rejected,
    Succeeded,
    TimedOut,
    TryAgain,
)
from agents.findings import Findings
from agents.launch import Command
from agents.limits import SandboxSettings
from agents.paths import checked_spelling
from agents.sandbox import probe

Source: TypeAlias = Callable[[Target, timedelta], Iterable[JSON]]

NO_CACHES = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "MYPY_CACHE_DIR": "/tmp/mypy",  # noqa: S108 - the command's own /tmp
    "RUFF_NO_CACHE": "true",
}


class ValidationProcessor:
    """``{"path", "checks"}`` runs built-in checks, ``{"path", "check_command"}`` a command.

    Result of checks: ``{"path", "ok", "checks", "findings", "total", "truncated"}``, where
    ``checks`` says of each ``{"ok", "findings", "seconds"}`` or ``{"skipped": why}``, and
    ``findings`` are SARIF results whose ``properties`` name check and tool. When there are too
    many to show (``truncated``) all of them are in the artefact ``findings.sarif``.
    Result of a command: ``{"path", "ok", "command", "exit_code", "output", "seconds"}``.
    """

    recycle_after = 100
    needs_workspace = True

    def validate(self, payload: JSON, settings: JSON) -> JSON:
        path = checked_spelling(payload.get("path"))
        checks = payload.get("checks")
        command = payload.get("check_command")
        if command is None:
            return {"path": path, "checks": _checked_names(checks)}
        if checks is not None:
            raise PayloadError("check_command", "takes the place of checks; give one of the two")
        allowed = SandboxSettings.from_settings(settings).allowed_commands
        argv = parse_command(command, allowed, "check_command")
        return {"path": path, "check_command": shlex.join(argv)}

    def replay_safe(self, payload: JSON) -> bool:  # noqa: ARG002
        return True

    def resources(self, payload: JSON) -> list[str]:  # noqa: ARG002
        return []

    def probe(self, resource: str, settings: JSON) -> bool:  # noqa: ARG002
        probe.cache_clear()
        return resource == SANDBOX and probe().kind == "bubblewrap"

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:
        path: str = payload["path"]
        try:
            ground = Ground.of_attempt(path, context)
            view = View(ground.workspace.root, ground.workspace.root, writable=False)
            if "check_command" in payload:
                return _run_check_command(payload, ground, view, context)
            target = Target(view, path, ground.target.is_dir())
            return _Checking(ground, target, context).run(payload["checks"])
        except REFUSALS as error:
            return refused(error, path)


def _checked_names(checks: object) -> list[str]:
    if checks is None:
        return list(DEFAULT_CHECKS)
    if not isinstance(checks, list) or not checks:
        raise PayloadError("checks", f"must be a list of some of: {', '.join(CHECKS)}")
    for index, name in enumerate(checks):
        if name not in CHECKS:
            raise PayloadError(f"checks[{index}]", f"must be one of: {', '.join(CHECKS)}")
    return [name for name in CHECKS if name in checks]


def _run_check_command(
    payload: JSON, ground: Ground, view: View, context: ProcessorContext
) -> Outcome:
    path: str = payload["path"]
    allowed = ground.sandbox.settings.allowed_commands
    argv = for_path(parse_command(payload["check_command"], allowed, "check_command"), path)
    command = Command(argv, view, ground.toolchain, variables=NO_CACHES)
    finished, ended = run_command(ground, command, context)
    ok = finished.exit_code == 0
    result = {"path": path, "ok": ok, "command": shlex.join(argv), **ended}
    if outcome := cut_short(finished, result | {"ok": False}):
        return outcome
    return Succeeded(result) if ok else Rejected(f"{argv[0]}: {end_of(finished)}", result)


class _Checking:
    """The built-in checks of one target, one after the other."""

    def __init__(self, ground: Ground, target: Target, context: ProcessorContext) -> None:
        self._context = context
        self._target = target
        self._tools = Tools(ground.sandbox, context.workdir, ground.toolchain)
        self._checks: dict[str, JSON] = {}
        self._findings = Findings(
            lambda: context.artefact("findings.sarif", "application/sarif+json")
        )

    def run(self, wanted: list[str]) -> Outcome:
        try:
            self._run_all(wanted)
        except Misconfigured as error:
            return Rejected(str(error), self._result())
        except ToolFailed as error:
            return TryAgain(str(error))
        except OutOfTime as error:
            return TimedOut(str(error), self._result())
        except OutputTooLarge as error:
            return LimitReached("output", str(error), self._result())
        finally:
            self._findings.close()
        failed = [name for name in wanted if self._findings.errors[name]]
        if not failed:
            return Succeeded(self._result(ok=True))
        counts = ", ".join(f"{self._findings.counts[name]} {name}" for name in failed)
        return Rejected(f"{self._target.path}: findings in {counts}", self._result())

    def _result(self, *, ok: bool = False) -> JSON:
        return {
            "path": self._target.path,
            "ok": ok,
            "checks": self._checks,
            "findings": self._findings.shown,
            "total": self._findings.total,
            "truncated": self._findings.truncated,
        }

    def _run_all(self, wanted: list[str]) -> None:
        tools, target = self._tools, self._target
        # The linter reports broken syntax too: one run of it answers both.
        syntax_alone = target.is_python and "lint" not in wanted
        for name, applies, source in (
            ("syntax", syntax_alone, tools.ruff_syntax),
            ("syntax", target.is_data, tools.parse),
            ("lint", target.is_lintable, tools.ruff_lint),
            ("format", target.is_python, tools.ruff_format),
            ("types", target.is_python, tools.ty),
            ("security", target.is_python, tools.ruff_security),
        ):
            if name in wanted and applies:
                self._check(name, source, wanted[0])
        for name in wanted:
            if name in self._checks or (name == "syntax" and "lint" in self._checks):
                answer = self._checks.setdefault(name, {})
                answer["ok"] = not self._findings.errors[name]
                answer["findings"] = self._findings.counts[name]
            else:
                suffix = PurePosixPath(target.path).suffix or "such"
                self._checks[name] = {"skipped": f"it does not read {suffix} files"}

    def _check(self, name: str, source: Source, syntax: str) -> None:
        """Broken syntax, which every tool reports, counts for the check ``syntax`` alone."""
        begun = time.monotonic()
        for finding in source(self._target, time_for_commands(self._context)):
            if finding["ruleId"] != INVALID_SYNTAX:
                self._findings.add(name, finding)
            elif name in {syntax, "lint"}:
                self._findings.add(syntax, finding)
        answer = self._checks.setdefault(name, {})
        answer["seconds"] = round(answer.get("seconds", 0) + time.monotonic() - begun, 3)

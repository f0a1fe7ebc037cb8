"""Runs one test module or folder in a private copy of the workspace."""

from __future__ import annotations

import shlex
import time
from typing import Protocol

from agents.bubblewrap import Mounts, View
from agents.command_run import (
    LOG_SECONDS,
    REFUSALS,
    SANDBOX,
    Ground,
    cut_short,
    end_of,
    refused,
    run_command,
)
from agents.commands import for_path, parse_command
from agents.contract import JSON, Outcome, ProcessorContext, Rejected, Succeeded
from agents.junit import write_junit
from agents.launch import Command
from agents.limits import SandboxSettings
from agents.paths import checked_spelling
from agents.private_copy import private_copy
from agents.pytest_reporting import Reporting, is_pytest, why_not
from agents.sandbox import Finished, probe
from agents.tally import Tally

DEFAULT_COMMAND = "pytest -v"
MAX_RED_LOGGED = 100


class ModuleRunProcessor:
    """``{"path", "test_command"}``, by default ``pytest -v``; the path is added at its end.

    Result: ``{"path", "ok", "command", "exit_code", "output", "seconds"}`` and, of pytest,
    ``counts`` as in its summary, ``total`` tests collected, ``cases`` of ``{"id", "outcome",
    "seconds", "message", "text"}``, ``cases_truncated``, and the test that was ``running`` when
    the run died. All cases are in the artefact ``junit.xml``.
    """

    recycle_after = 100
    needs_workspace = True

    def validate(self, payload: JSON, settings: JSON) -> JSON:
        allowed = SandboxSettings.from_settings(settings).allowed_commands
        command = payload.get("test_command", DEFAULT_COMMAND)
        argv = parse_command(command, allowed, "test_command")
        return {"path": checked_spelling(payload.get("path")), "test_command": shlex.join(argv)}

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
            allowed = ground.sandbox.settings.allowed_commands
            argv = parse_command(payload["test_command"], allowed, "test_command")
            if is_pytest(argv):
                return _PytestRun(ground, path, argv, context).outcome()
            return _run_other(ground, path, argv, context)
        except REFUSALS as error:
            return refused(error, path)


def _private_view(ground: Ground, context: ProcessorContext) -> View:
    root = ground.workspace.root
    copy = context.workdir / "copy"
    own = [folder for folder in ground.toolchain.folders() if folder.is_relative_to(root)]
    private_copy(root, copy, ground.sandbox.user_for(root), leave_out=own)
    return View(root, copy, writable=True)


def _run_other(ground: Ground, path: str, argv: list[str], context: ProcessorContext) -> Outcome:
    argv = for_path(argv, path)
    command = Command(argv, _private_view(ground, context), ground.toolchain)
    finished, ended = run_command(ground, command, context)
    ok = finished.exit_code == 0
    result = {"path": path, "ok": ok, "command": shlex.join(argv), **ended}
    if outcome := cut_short(finished, result):
        return outcome
    return Succeeded(result) if ok else Rejected(f"{argv[0]}: {end_of(finished)}", result)


class LiveLog(Protocol):
    def __call__(self, *, last: bool = False) -> None: ...


class _PytestRun:
    """One run of pytest that reports through our plugin."""

    def __init__(
        self, ground: Ground, path: str, argv: list[str], context: ProcessorContext
    ) -> None:
        self._ground = ground
        self._path = path
        self._asked = for_path(argv, path)
        self._context = context
        user = ground.sandbox.user_for(ground.workspace.root)
        events = context.workdir / "events"
        self._reporting = Reporting.prepared(events, ground.toolchain, user)
        self._argv = for_path(self._reporting.argv(argv), path)
        self._tally = Tally(self._reporting.events)

    def outcome(self) -> Outcome:
        log = self._live_log()
        finished, ended = run_command(
            self._ground, self._command(), self._context, watch=lambda _output: log()
        )
        log(last=True)
        result = self._result(finished, ended)
        if outcome := cut_short(finished, result):
            return outcome
        reason = self._reason(finished)
        return Rejected(reason, result) if reason else Succeeded(result)

    def _command(self) -> Command:
        reporting = self._reporting
        return Command(
            self._argv,
            _private_view(self._ground, self._context),
            self._ground.toolchain,
            mounts=Mounts(visible=reporting.visible, writable=reporting.writable),
            variables=reporting.variables,
        )

    def _live_log(self) -> LiveLog:
        """Progress twice a second at most, and a line for each test that turns red."""
        logged_at = 0.0
        logged = (0, "")
        reds = 0

        def log(*, last: bool = False) -> None:
            nonlocal logged_at, logged, reds
            for case in self._tally.update():
                reds += 1
                if reds <= MAX_RED_LOGGED:
                    self._context.record(f"test {case.outcome}", id=case.id, message=case.message)
            state = (self._tally.finished, self._tally.running or "")
            if state != logged and (last or time.monotonic() - logged_at >= LOG_SECONDS):
                logged, logged_at = state, time.monotonic()
                self._context.record(
                    "tests",
                    finished=state[0],
                    total=self._tally.total,
                    running=state[1],
                    **self._tally.counts,
                )

        return log

    def _result(self, finished: Finished, ended: JSON) -> JSON:
        tally = self._tally
        cases, truncated = tally.shown_cases()
        if tally.all_cases():
            junit = self._context.artefact("junit.xml", "application/xml")
            write_junit(junit, self._path, tally.all_cases(), finished.seconds)
        return {
            "path": self._path,
            "ok": not self._reason(finished),
            "command": shlex.join(self._asked),
            "counts": dict(tally.counts),
            "total": tally.total,
            "cases": cases,
            "cases_truncated": truncated,
            "running": tally.running,
            **ended,
        }

    def _reason(self, finished: Finished) -> str:
        return why_not(self._tally, finished, self._ground.toolchain, self._path)

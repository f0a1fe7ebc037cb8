"""A pytest plugin that writes down each step of a run at once, one JSON object a line.

Loaded with ``-p`` into the workspace's own pytest (6 or newer, Python 3.8 or newer), so it imports
nothing of the console. Each line is its own open, write and close: what a test did to descriptors,
or to the process, loses nothing that was written before.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import Any

import pytest

# Taken out of the environment: a pytest that a test starts is not part of this run, and neither
# are pytest-xdist's workers, whose reports reach the controller.
EVENTS = os.environ.pop("OLLAMA_CODER_EVENTS", "")
MAX_TEXT = 20_000
MAX_MESSAGE = 500


def pytest_configure(config: pytest.Config) -> None:
    if EVENTS:
        config.pluginmanager.register(Reporter(config, EVENTS))


def _middle_out(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n[…]\n{text[-limit // 2 :]}"


class Reporter:
    """Sees every report where pytest's own summary is counted."""

    def __init__(self, config: pytest.Config, path: str) -> None:
        self._config = config
        self._path = path
        self._collect_errors: set[str] = set()

    def _write(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **fields}) + "\n"
        with open(self._path, "ab", buffering=0) as events:  # noqa: PTH123 - one system call
            events.write(line.encode())

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._write("collected", total=len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        self._write("collected", total=len(ids))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        # Each worker of pytest-xdist reports the same error.
        if report.nodeid in self._collect_errors or report.passed:
            return
        self._collect_errors.add(report.nodeid)
        self._report(report, "error" if report.failed else "skipped", 0.0)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write("started", id=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        status = self._config.hook.pytest_report_teststatus(report=report, config=self._config)
        self._report(report, status[0], report.duration)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._write("finished", id=nodeid)

    def pytest_sessionfinish(self, exitstatus: int | pytest.ExitCode) -> None:
        self._write("end", exit_code=int(exitstatus))

    def _report(
        self,
        report: pytest.CollectReport | pytest.TestReport,
        category: str,
        seconds: float,
    ) -> None:
        fields: dict[str, Any] = {"id": report.nodeid, "category": category, "seconds": seconds}
        if category not in ("", "passed"):
            fields["message"] = _middle_out(_message(report), MAX_MESSAGE)
            if report.failed:
                fields["text"] = _middle_out(report.longreprtext, MAX_TEXT)
        self._write("phase", when=report.when, **fields)


def _message(report: Any) -> str:
    reason: str | None = getattr(report, "wasxfail", None)
    if reason is not None:
        return reason
    longrepr = report.longrepr
    if isinstance(longrepr, tuple):
        return str(longrepr[2])
    crash = getattr(longrepr, "reprcrash", None)
    if crash is not None:
        return str(crash.message)
    last_line = str(longrepr or "").strip().rpartition("\n")[2]
    return re.sub(r"^E\s+", "", last_line)

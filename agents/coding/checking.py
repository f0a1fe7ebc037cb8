"""One run of a check command on a copy: case by case where it is pytest, else its exit code."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from agents.coding.enclosure import Enclosure
from agents.coding.guard import trimmed
from agents.command_run import end_of
from agents.contract import JSON
from agents.pytest_reporting import NO_TESTS_COLLECTED, Reporting, is_pytest, why_not
from agents.sandbox import Finished
from agents.tally import Case, Tally

MOST_TIME = timedelta(hours=1)
"""As long as the attempt itself may take: its own end comes first."""
SHOWN = 8000
"""Characters of output in a result."""
MOST_RED_SHOWN = 50
USAGE_ERROR = 4
"""pytest.ExitCode"""
NOT_FOUND = "ERROR: file or directory not found"
LEAST_PER_CASE = 600
"""Characters of a red case that a model is shown at least, the first ones first."""


@dataclass(frozen=True, slots=True)
class Check:
    """How a check ended. ``cases`` are the tests by their ids; None where it is not pytest."""

    argv: list[str]
    reason: str
    """Why the answer is no; empty when it is yes."""
    exit_code: int
    seconds: float
    output: str
    timed_out: bool = False
    cases: dict[str, Case] | None = None

    @property
    def ok(self) -> bool:
        return not self.reason

    @property
    def found_no_tests(self) -> bool:
        """Also where a file of tests that the command names is not there."""
        if self.cases is None or self.cases:
            return False
        missing = self.exit_code == USAGE_ERROR and NOT_FOUND in self.output
        return missing or self.exit_code == NO_TESTS_COLLECTED

    @property
    def red(self) -> list[Case]:
        return [case for case in (self.cases or {}).values() if case.is_red]

    def told(self, most: int) -> str:
        """What a model needs of it, within so many characters: the red tests, else the output."""
        head = f"{shlex.join(self.argv)}: {self.reason or 'passed'}"
        room = max(0, most - len(head) - 1)
        if not self.red:
            return f"{head}\n{trimmed(self.output, room)}".rstrip()
        share = max(LEAST_PER_CASE, room // len(self.red))
        parts = [head]
        for case in self.red:
            part = f"\n{case.id}\n{trimmed(case.text or case.message, share)}"
            if len(part) > room:
                parts.append(f"\nand {len(self.red) - len(parts) + 1} more")
                break
            room -= len(part) + 1
            parts.append(part)
        return "\n".join(parts)

    def as_json(self) -> JSON:
        answer: JSON = {
            "ok": self.ok,
            "reason": self.reason,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "output": trimmed(self.output, SHOWN),
        }
        if self.cases is not None:
            red = [{"id": case.id, "message": case.message} for case in self.red]
            answer |= {"total": len(self.cases), "red": red[:MOST_RED_SHOWN]}
            answer["red_total"] = len(red)
        return answer


def run_check(enclosure: Enclosure, argv: Sequence[str], timeout: timedelta = MOST_TIME) -> Check:
    """Run the command, which must be on the allow-list, to its end or the attempt's.

    Raises:
        CommandNotFound, DiskNearlyFull, SandboxBroken, Blocked: see ``Enclosure.run``.
    """
    if not is_pytest(argv):
        finished = enclosure.run(argv, timeout)
        reason = "" if finished.exit_code == 0 else f"{argv[0]}: {end_of(finished)}"
        return _check(enclosure, argv, finished, reason)
    with tempfile.TemporaryDirectory(dir=enclosure.context.workdir) as folder:
        Path(folder).chmod(0o755)
        reporting = Reporting.prepared(Path(folder) / "events", enclosure.toolchain, enclosure.user)
        finished = enclosure.run(
            reporting.argv(argv),
            timeout,
            visible=reporting.visible,
            writable=reporting.writable,
            variables=reporting.variables,
        )
        tally = Tally(reporting.events)
        tally.update()
    reason = why_not(tally, finished, enclosure.toolchain, "the project")
    cases = {case.id: case for case in tally.all_cases()}
    return _check(enclosure, argv, finished, reason, cases)


def _check(
    enclosure: Enclosure,
    argv: Sequence[str],
    finished: Finished,
    reason: str,
    cases: dict[str, Case] | None = None,
) -> Check:
    if finished.timed_out:
        reason = f"it did not end within {finished.seconds:.0f} s"
    elif finished.overflowed:
        reason = f"it printed more than {enclosure.settings.max_output_bytes:,} bytes"
    return Check(
        list(argv),
        reason,
        finished.exit_code,
        finished.seconds,
        finished.output.text,
        finished.timed_out,
        cases,
    )

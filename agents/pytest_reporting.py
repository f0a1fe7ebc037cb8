"""A pytest that reports each step to us, and what its report says of the run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.command_run import end_of
from agents.launch import CommandNotFound
from agents.sandbox import Finished
from agents.tally import Tally
from agents.toolchain import Toolchain

BEGINNINGS = (["pytest"], ["python", "-m", "pytest"], ["python3", "-m", "pytest"])
PLUGIN = Path(__file__).parent / "pytest_plugin" / "ollama_coder_events.py"
NO_TESTS_COLLECTED = 5
"""pytest.ExitCode"""


def is_pytest(argv: Sequence[str]) -> bool:
    return bool(_beginning(argv))


def _beginning(argv: Sequence[str]) -> int:
    """How many words call pytest; none in another command."""
    return next((len(words) for words in BEGINNINGS if list(argv[: len(words)]) == words), 0)


@dataclass(frozen=True, slots=True)
class Reporting:
    """Where one run of pytest reports to: ``events``, in a folder of its own."""

    events: Path
    toolchain: Toolchain

    @classmethod
    def prepared(cls, folder: Path, toolchain: Toolchain, user: tuple[int, int]) -> Reporting:
        """Make the folder, for ``user`` to write to."""
        folder.mkdir()
        if os.getuid() == 0:
            os.chown(folder, *user)
        return cls(folder / "events.jsonl", toolchain)

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The command with the plugin, in front of its own arguments."""
        words = _beginning(argv)
        return [*argv[:words], "-p", PLUGIN.stem, *argv[words:]]

    @property
    def visible(self) -> list[Path]:
        return [PLUGIN.parent]

    @property
    def writable(self) -> list[Path]:
        return [self.events.parent]

    @property
    def variables(self) -> dict[str, str]:
        python_path = [str(PLUGIN.parent), self.toolchain.variables.get("PYTHONPATH", "")]
        return {
            "OLLAMA_CODER_EVENTS": str(self.events),
            "PYTHONPATH": os.pathsep.join(filter(None, python_path)),
        }


def why_not(tally: Tally, finished: Finished, toolchain: Toolchain, place: str) -> str:
    """Why the answer of a run is no; empty when it is yes. ``place`` is where tests were wanted.

    Raises:
        CommandNotFound: the environment has no pytest.
    """
    if tally.unreadable:
        report = f"its report cannot be read ({tally.unreadable})"
        return f"pytest: {end_of(finished)}, and {report}{_last_words(finished)}"
    if tally.exit_code is None:
        return _why_it_died(tally, finished, toolchain)
    if finished.exit_code == 0 and tally.exit_code == 0:
        return tally.summary()  # a run with red cases is no success, whatever its exit code
    if finished.exit_code == NO_TESTS_COLLECTED:
        return f"no tests were collected in {place}"
    return tally.summary() or f"pytest: {end_of(finished)}{_last_words(finished)}"


def _why_it_died(tally: Tally, finished: Finished, toolchain: Toolchain) -> str:
    if tally.total is None and "No module named pytest" in finished.output.text:
        raise CommandNotFound(
            f"pytest is not installed in {toolchain.name}; install it there, or "
            "name another virtualenv in the workspace's environment"
        )
    at = f" while {tally.running} was running" if tally.running else ""
    return f"pytest did not get to its end{at}: {end_of(finished)}{_last_words(finished)}"


def _last_words(finished: Finished) -> str:
    lines = finished.output.text.strip().splitlines()
    return f" ({lines[-1].strip()[:300]})" if lines else ""

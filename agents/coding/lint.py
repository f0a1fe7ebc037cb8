"""What a linter says more, and what it says no longer, of the files that a patch changes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from agents.checks import (
    PYTHON_SUFFIXES,
    Misconfigured,
    OutOfTime,
    OutputTooLarge,
    ToolFailed,
    Tools,
)
from agents.coding.enclosure import Enclosure
from agents.command_run import time_for_commands
from agents.contract import JSON

MOST_SHOWN = 100
WHY: dict[type[Exception], str] = {
    Misconfigured: "the project's own configuration of the linter is wrong",
    OutOfTime: "the linter did not end in time",
    OutputTooLarge: "the linter found more than is kept",
    ToolFailed: "the linter did not run to its end",
}


@dataclass(frozen=True, slots=True)
class Change:
    """SARIF results that are new, and how many are gone; ``skipped`` says why nothing is known."""

    added: list[JSON] = field(default_factory=list)
    removed: int = 0
    skipped: str = ""

    def as_json(self) -> JSON:
        answer: JSON = {"added": self.added[:MOST_SHOWN], "removed": self.removed}
        answer["added_total"] = len(self.added)
        return answer | ({"skipped": self.skipped} if self.skipped else {})


@dataclass(frozen=True, slots=True)
class Findings:
    """The linter's findings in some files, by the project's own rules."""

    results: list[JSON]
    skipped: str = ""

    @classmethod
    def of(cls, enclosure: Enclosure, paths: Sequence[str]) -> Findings:
        """Of those paths that are Python files here."""
        folder = enclosure.folder
        there = [
            path
            for path in paths
            if Path(path).suffix.lower() in PYTHON_SUFFIXES
            and (folder / path).is_file()
            and (folder / path).resolve().is_relative_to(folder.resolve())
        ]
        if not there:
            return cls([])
        tools = Tools(enclosure.sandbox, enclosure.context.workdir, enclosure.toolchain)
        time = time_for_commands(enclosure.context)
        try:
            return cls(list(tools.ruff_lint_files(enclosure.seen_only, there, time)))
        except tuple(WHY) as error:
            # Not in the tool's own words: they quote what it read.
            return cls([], WHY[type(error)])

    def then(self, after: Findings) -> Change:
        """What changed. The line is no part of a finding's name: lines move."""
        if skipped := self.skipped or after.skipped:
            return Change(skipped=skipped)
        left = Counter(map(_name, self.results))
        added: list[JSON] = []
        for result in after.results:
            if left[_name(result)] > 0:
                left[_name(result)] -= 1
            else:
                added.append(result)
        return Change(added, left.total())


def _name(result: JSON) -> str:
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    return json.dumps([unquote(place), result["ruleId"], result["message"]["text"]])

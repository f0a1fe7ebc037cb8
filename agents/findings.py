"""Findings as SARIF 2.1.0 results: all of them counted, the first shown, the rest in a file.

Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from agents.contract import JSON

MAX_SHOWN = 1000
MAX_SHOWN_BYTES = 256 * 1024
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def result(
    tool: str, rule: str, message: str, path: str, region: JSON | None, level: str = "error"
) -> JSON:
    """One SARIF result. ``path`` is relative to the workspace; lines and columns count from 1."""
    location: JSON = {"artifactLocation": {"uri": quote(path)}}
    if region:
        location["region"] = region
    return {
        "ruleId": rule,
        "level": level,
        "message": {"text": message},
        "locations": [{"physicalLocation": location}],
        "properties": {"tool": tool},
    }


class Findings:
    """Takes the findings of one task.

    Within ``MAX_SHOWN`` and ``MAX_SHOWN_BYTES`` they are only held; beyond, a SARIF file is opened
    by ``spill`` that takes every one of them.
    """

    def __init__(self, spill: Callable[[], Path]) -> None:
        self.shown: list[JSON] = []
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        """Those of level error: the ones that make a check fail."""
        self._spill = spill
        self._shown_bytes = 0
        self._file: TextIO | None = None

    @property
    def total(self) -> int:
        return self.counts.total()

    @property
    def truncated(self) -> bool:
        return self._file is not None

    def add(self, check: str, finding: JSON) -> None:
        finding["properties"]["check"] = check
        self.counts[check] += 1
        if finding["level"] == "error":
            self.errors[check] += 1
        text = json.dumps(finding)
        if self._file is None:
            self._shown_bytes += len(text)
            if len(self.shown) < MAX_SHOWN and self._shown_bytes <= MAX_SHOWN_BYTES:
                self.shown.append(finding)
                return
            self._file = self._begin()
        self._file.write(",\n" + text)

    def _begin(self) -> TextIO:
        file = self._spill().open("w", encoding="utf-8")
        tool = {"driver": {"name": "Ollama Coder"}}
        file.write(f'{{"$schema": "{SCHEMA}", "version": "2.1.0", "runs": [\n')
        file.write(f'{{"tool": {json.dumps(tool)}, "columnKind": "unicodeCodePoints",\n')
        file.write('"results": [\n' + ",\n".join(json.dumps(finding) for finding in self.shown))
        return file

    def close(self) -> None:
        if self._file and not self._file.closed:
            self._file.write("\n]}]}\n")
            self._file.close()

"""Counts a pytest run from the events of its plugin, while it runs and whatever becomes of it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agents.contract import JSON

CATEGORIES = {
    "passed": "passed",
    "failed": "failed",
    "error": "errors",
    "skipped": "skipped",
    "xfailed": "xfailed",
    "xpassed": "xpassed",
}
"""pytest's categories of its summary, and ours."""
GRAVITY = ("passed", "skipped", "xfailed", "xpassed", "failed", "error")
LONGEST_EVENT = 1024 * 1024
MOST_BYTES = 256 * 1024 * 1024
MOST_CASES = 200_000
LONGEST_PHASE = 1e6
"""Bounds of what is read: bytes of one event and of all, tests, seconds of a phase."""
MAX_SHOWN = 2000
MAX_SHOWN_BYTES = 256 * 1024


@dataclass(slots=True)
class Case:
    """One test, or a file that could not be collected. ``outcome`` is its gravest phase."""

    id: str
    outcome: str = ""
    seconds: float = 0.0
    message: str = ""
    text: str = ""

    @property
    def is_red(self) -> bool:
        return self.outcome in {"failed", "error"}

    def as_json(self) -> JSON:
        shown: JSON = {"id": self.id, "outcome": self.outcome, "seconds": round(self.seconds, 4)}
        if self.message:
            shown["message"] = self.message
        if self.text:
            shown["text"] = self.text[:4000]
        return shown


class Tally:
    """``counts`` are those of pytest's summary: a test can pass and fail in its teardown."""

    def __init__(self, events: Path) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(CATEGORIES.values(), 0))
        self.cases: dict[str, Case] = {}
        self.total: int | None = None
        """Tests collected, once that is known."""
        self.exit_code: int | None = None
        """What the run said at its end; None when it did not get there."""
        self.finished = 0
        self.unreadable = ""
        """Why the events could not be read to their end."""
        self._running: dict[str, None] = {}
        self._events = events
        self._offset = 0

    @property
    def running(self) -> str | None:
        """The test that was begun first among those that have not ended."""
        return next(iter(self._running), None)

    def update(self) -> list[Case]:
        """Read on from where the last reading ended; the cases that turned red since.

        The tests can write there too. What is not an event as the plugin writes them ends the
        reading for good, and ``unreadable`` says why.
        """
        reds: list[Case] = []
        if self.unreadable:
            return reds
        try:
            for event in self._new_events():
                self._take(event, reds)
        except (OSError, ValueError, RecursionError) as error:
            self.unreadable = f"{type(error).__name__}: {error}"[:200]
        return reds

    def _take(self, event: JSON, reds: list[Case]) -> None:
        match event:
            case {"event": "collected", "total": int(total)}:
                self.total = total
            case {"event": "started", "id": str(name)}:
                self._running[name] = None
            case {"event": "finished", "id": str(name)}:
                self._running.pop(name, None)
                self.finished += 1
            case {
                "event": "phase",
                "id": str(name),
                "category": str(category),
                "seconds": int() | float() as seconds,
            } if 0 <= seconds < LONGEST_PHASE:
                if len(self.cases) >= MOST_CASES:
                    raise ValueError(f"more than {MOST_CASES} tests")
                case = self.cases.setdefault(name, Case(name))
                said = str(event.get("message", "")), str(event.get("text", ""))
                if self._add(case, category, float(seconds), said):
                    reds.append(case)
            case {"event": "end", "exit_code": int(code)}:
                self.exit_code = code
            case _:
                raise ValueError(f"{str(event)[:100]} is not an event")

    def _new_events(self) -> Iterable[JSON]:
        # A link or a pipe in this place is not followed.
        try:
            descriptor = os.open(self._events, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return
        with open(descriptor, "rb") as source:  # noqa: PTH123
            source.seek(self._offset)
            while line := source.readline(LONGEST_EVENT):
                if not line.endswith(b"\n"):
                    if len(line) == LONGEST_EVENT:
                        raise ValueError(f"a line of more than {LONGEST_EVENT} bytes")
                    return
                self._offset += len(line)
                if self._offset > MOST_BYTES:
                    raise ValueError(f"more than {MOST_BYTES} bytes of events")
                event = json.loads(line)
                if not isinstance(event, dict):
                    raise ValueError(f"{str(event)[:100]} is not an event")  # noqa: TRY004
                yield event

    def _add(self, case: Case, category: str, seconds: float, said: tuple[str, str]) -> bool:
        """Add a phase to its case; did that turn the case red?"""
        was_red = case.is_red
        case.seconds += seconds
        if category not in CATEGORIES:
            return False
        self.counts[CATEGORIES[category]] += 1
        if not case.outcome or GRAVITY.index(category) > GRAVITY.index(case.outcome):
            case.outcome = category
            case.message, case.text = said
        return case.is_red and not was_red

    def ended_cases(self) -> list[Case]:
        return [case for case in self.cases.values() if case.outcome]

    def all_cases(self) -> list[Case]:
        """With those that were cut off in the middle, as errors."""
        cut_off = "the run ended while this test was running"
        return self.ended_cases() + [Case(name, "error", message=cut_off) for name in self._running]

    def shown_cases(self) -> tuple[list[JSON], bool]:
        """Cases for the result, in the order they ran, and whether some were left out.

        Red ones are the last to be left out.
        """
        ended = self.ended_cases()
        kept: set[str] = set()
        size = 0
        for case in sorted(ended, key=lambda case: not case.is_red):
            size += len(json.dumps(case.as_json()))
            if len(kept) >= MAX_SHOWN or size > MAX_SHOWN_BYTES:
                break
            kept.add(case.id)
        shown = [case.as_json() for case in ended if case.id in kept]
        return shown, len(shown) < len(ended)

    def summary(self) -> str:
        """Such as ``3 failed, 1 error of 40``."""
        failed, errors = self.counts["failed"], self.counts["errors"]
        parts = [f"{failed} failed"] if failed else []
        if errors:
            parts.append(f"{errors} error{'s' if errors > 1 else ''}")
        of = f" of {self.total}" if self.total else ""
        return ", ".join(parts) + of if parts else ""

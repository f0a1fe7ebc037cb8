"""A text file as a model sees and changes it: lines end with LF there, whatever they do on disk."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from agents.coding.refusals import ToolRefused

BINARY_LOOK = 8000
"""Bytes in which a NUL tells a binary file, as git has it."""
MOST_COMPARED = 20_000
"""Lines of a file that are looked through for what is near to a text that is not there."""
LONGEST_COMPARED = 400
LEAST_LIKENESS = 0.6
"""Of two lines (difflib's ratio) that are called near."""
MOST_ASKED = 200
"""Lines of a text that is not there which are looked for."""
MOST_RATIOS = 500
"""Lines that are compared letter by letter: each takes up to milliseconds."""
MOST_NEAR = 30
NUMBERED = re.compile(r"^\d+\t")


@dataclass(frozen=True, slots=True)
class TextFile:
    """The content of a file. ``text`` has LF; ``crlf`` says that every line ends with CRLF."""

    text: str
    crlf: bool = False
    exact: bool = True
    """Are the bytes valid UTF-8, so that writing gives back what is not changed?"""

    @classmethod
    def decoded(cls, data: bytes) -> TextFile:
        """
        Raises:
            ToolRefused: it is binary.
        """
        if b"\0" in data[:BINARY_LOOK]:
            raise ToolRefused(f"it is a binary file of {len(data):,} bytes")
        text = data.decode("utf-8", errors="replace")
        crlf = "\r\n" in text and text.count("\r\n") == text.count("\n")
        exact = text.encode() == data
        return cls(text.replace("\r\n", "\n") if crlf else text, crlf, exact)

    def encoded(self) -> bytes:
        return (self.text.replace("\n", "\r\n") if self.crlf else self.text).encode()

    @property
    def lines(self) -> list[str]:
        """As editors count them: LF alone ends a line."""
        lines = self.text.split("\n")
        return lines[:-1] if lines[-1] == "" else lines

    def replaced(self, old: str, new: str) -> TextFile:
        """With ``new`` in place of the one place that reads ``old``.

        Raises:
            ToolRefused: it is in no place, or in several; says what is near, or where.
        """
        if not self.exact:
            raise ToolRefused("it is not UTF-8 text, so it cannot be edited without harm")
        if self.crlf:
            old, new = old.replace("\r\n", "\n"), new.replace("\r\n", "\n")
        if old not in self.text and _is_numbered(old):
            old, new = _without_numbers(old), _without_numbers(new)
        places = self.text.count(old)
        if places == 0:
            raise ToolRefused(f"old_text is not in the file. {self._near(old)}")
        if places > 1:
            at = ", ".join(map(str, self._lines_with(old)))
            raise ToolRefused(
                f"old_text is there {places} times (lines {at}); add lines before or after it "
                "until it is there once"
            )
        return TextFile(self.text.replace(old, new), self.crlf)

    def _lines_with(self, text: str) -> list[int]:
        at: list[int] = []
        position = self.text.find(text)
        while position >= 0 and len(at) < 10:
            at.append(self.text.count("\n", 0, position) + 1)
            position = self.text.find(text, position + len(text))
        return at

    def _near(self, wanted: str) -> str:
        """Where something like it is, with the lines as they stand."""
        asked = wanted.strip("\n").split("\n")[:MOST_ASKED]
        lines = self.lines[:MOST_COMPARED]
        starts = _same_but_for_spaces(asked, lines)
        told = "But for spaces these lines are the same"
        if not starts:
            starts = _like_the_first(asked, lines)
            told = "The nearest lines are"
        if not starts:
            return "Nothing like it is there; read the file again."
        shown = lines[starts[0] : starts[0] + min(len(asked), MOST_NEAR)]
        return f"{told}:\n{numbered(shown, starts[0] + 1)}"


def numbered(lines: list[str], first: int) -> str:
    """The lines with their numbers, a tab between."""
    return "\n".join(f"{number}\t{line}" for number, line in enumerate(lines, first))


def _same_but_for_spaces(asked: list[str], lines: list[str]) -> list[int]:
    bare = ["".join(line.split()) for line in asked]
    seen = ["".join(line.split()) for line in lines]
    return [at for at in range(len(seen)) if seen[at : at + len(bare)] == bare]


def _like_the_first(asked: list[str], lines: list[str]) -> list[int]:
    """Where the asked lines would begin, by the one that is most like their first."""
    before, first = next(
        ((index, line) for index, line in enumerate(asked) if line.strip()), (0, "")
    )
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(first.strip()[:LONGEST_COMPARED])
    best, place = LEAST_LIKENESS, -1
    left = MOST_RATIOS
    for at, line in enumerate(lines):
        matcher.set_seq1(line.strip()[:LONGEST_COMPARED])
        if left and matcher.real_quick_ratio() > best and matcher.quick_ratio() > best:
            left -= 1
            if (likeness := matcher.ratio()) > best:
                best, place = likeness, at
    return [max(0, place - before)] if place >= 0 else []


def _is_numbered(text: str) -> bool:
    """Was it copied with the numbers that reading puts before each line?"""
    lines = text.strip("\n").split("\n")
    return all(NUMBERED.match(line) for line in lines)


def _without_numbers(text: str) -> str:
    return "\n".join(NUMBERED.sub("", line) for line in text.split("\n"))

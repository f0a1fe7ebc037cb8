"""What a tool's answer shows of what it found: bounded, and saying what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

LONGEST_LINE = 2000


def wanted(path: str, pattern: str) -> bool:
    """Does the path, or the file's name, match? ``**/`` also stands for no folder at all."""
    name = path.rpartition("/")[2]
    spellings = {pattern, pattern.replace("**/", "")}
    return not pattern or any(
        fnmatchcase(path, spelling) or fnmatchcase(name, spelling) for spelling in spellings
    )


def by_folder(paths: Sequence[str], base: str, most: int) -> str:
    """Too many paths for one answer: what lies in the folder, with how much is below."""
    inside = [PurePosixPath(path).relative_to(base).parts for path in paths]
    counts = Counter(parts[0] for parts in inside)
    folders = {parts[0] for parts in inside if len(parts) > 1}
    entries = [
        f"{PurePosixPath(base, name)}/ ({count} files)"
        if name in folders
        else str(PurePosixPath(base, name))
        for name, count in sorted(counts.items())
    ]
    left = [f"and {len(entries) - most} more"] if len(entries) > most else []
    head = f"{len(paths)} files; list a folder below, or give a pattern:"
    return "\n".join([head, *entries[:most], *left])


def fitting(lines: Sequence[str], room: int) -> list[str]:
    """The first lines that fit into so many characters, one at least, each cut if it is long."""
    shown: list[str] = []
    for line in lines:
        cut = line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}… (cut)"
        room -= len(cut) + 1
        if room < 0 and shown:
            break
        shown.append(cut)
    return shown


def matches(found: Sequence[Sequence[Any]], room: int, end: str) -> str:
    """``path:line: text`` of each match; ``end`` says why there are no more, if it was not all."""
    lines = [f"{one_line(path)}:{number}: {text}" for path, number, text in found]
    shown = fitting(lines, room)
    if len(shown) < len(lines):
        end = "there are more; narrow the search"
    return "\n".join([*shown, *filter(None, [end])]) or "no line has it"


def one_line(text: str) -> str:
    """A file's name as one line of valid Unicode, whatever bytes it has on disk."""
    return text.encode(errors="replace").decode().replace("\n", "?").replace("\r", "?")

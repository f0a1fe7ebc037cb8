"""A patch as a page shows it: file by file, each line by what it does, and never too much."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from batches.models import Artefact, Task
from batches.predecessors import PATCH

MOST_BYTES = 256 * 1024
MOST_LINES = 1500
LONGEST_LINE = 400

Line = tuple[str, str]
"""What it does (``add``, ``del``, ``hunk`` or empty) and its text."""


def patch_of(task: Task) -> dict[str, Any] | None:
    """What the last attempt would change; None where it left no patch."""
    kept = Artefact.objects.filter(task=task, attempt=task.attempt, name=PATCH).first()
    if kept is None:
        return None
    try:
        with kept.file.open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode(errors="replace")
    except FileNotFoundError:
        return None
    lines = text.splitlines()
    return {
        "files": list(files(islice(lines, MOST_LINES))),
        "cut": kept.size > MOST_BYTES or len(lines) > MOST_LINES,
        "attempt": kept.attempt,
        "name": PATCH,
    }


def files(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Each file with its lines; what Git says of it before the first hunk is left out."""
    current: dict[str, Any] | None = None
    in_hunk = False
    for line in lines:
        if line.startswith("diff --git "):
            if current:
                yield current
            current = {"path": path_of(line), "notes": [], "lines": []}
            in_hunk = False
        elif current is None:
            current = {"path": "", "notes": [], "lines": [shown(line)]}
        elif line.startswith("@@") or line == "GIT binary patch":
            in_hunk = True
            current["lines"].append(("hunk", clipped(line)))
        elif in_hunk:
            current["lines"].append(shown(line))
        elif not line.startswith(("index ", "--- ", "+++ ")):
            current["notes"].append(clipped(line))
    if current:
        yield current


def path_of(line: str) -> str:
    """Of ``diff --git a/PATH b/PATH``; both are the same, as no file is renamed in ours."""
    names = line.removeprefix("diff --git ")
    half = len(names) // 2
    if names[:half][2:] == names[half + 1 :][2:]:
        return clipped(names[half + 1 :][2:])
    return clipped(names)


def shown(line: str) -> Line:
    return {"+": "add", "-": "del"}.get(line[:1], ""), clipped(line)


def clipped(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"

"""Looks for an expression in files and prints each line that has it; a program of its own.

``python -I searching.py REQUEST``, run in the sandbox: an expression that a model wrote can keep
Python's matcher busy for ever, and only a process can be ended then. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BINARY_LOOK = 8000
"""Bytes in which a NUL tells a binary file, as git has it."""
LONGEST_LINE = 300
LARGEST_FILE = 4 * 1024 * 1024
DONE = "done"
ERROR = "error"


@dataclass(frozen=True)
class Request:
    """Paths are relative to the folder the program is started in."""

    expression: str
    path: str
    most: int
    skipped: list[str]
    """Files that are not looked into."""
    skipped_folders: list[str]
    """Names of folders that are not entered."""


def files(request: Request) -> Iterator[Path]:
    """The file, or those below the folder, links left out, in the order of their names."""
    if not Path(request.path).is_dir():
        yield Path(request.path)
        return
    for parent, folders, names in os.walk(request.path):
        folders[:] = sorted(set(folders) - set(request.skipped_folders))
        for name in sorted(names):
            found = Path(parent) / name
            if found.is_file() and not found.is_symlink():
                yield found


def lines_of(file: Path) -> list[str]:
    """The lines of a text file; none of one that is binary, very large or cannot be read."""
    try:
        if file.stat().st_size > LARGEST_FILE:
            return []
        data = file.read_bytes()
    except OSError:
        return []
    if b"\0" in data[:BINARY_LOOK]:
        return []
    return data.decode("utf-8", errors="replace").splitlines()


def main(request: Request) -> None:
    """Print ``[path, line, text]`` of each match, as many as are wanted; ``done`` if it was all.

    Of what is no expression, ``{"error": why}``.
    """
    try:
        expression = re.compile(request.expression)
    except (re.error, RecursionError, OverflowError) as error:
        _say({ERROR: str(error)})
        return
    skipped = set(request.skipped)
    left = request.most
    for file in files(request):
        if str(file) in skipped:
            continue
        for number, line in enumerate(lines_of(file), 1):
            if not expression.search(line):
                continue
            if left == 0:
                return
            left -= 1
            _say([str(file), number, line[:LONGEST_LINE]])
    _say(DONE)


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Request(**json.loads(sys.argv[1])))

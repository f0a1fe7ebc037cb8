"""Parses JSON, TOML and YAML files and prints what is wrong, one JSON object a line.

A program of its own that runs in the sandbox: a file made to exhaust memory or the stack ends this
process and nothing else. Each file is named before it is read, so that its killer is known.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

SUFFIXES = {".json": "json", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}
MAX_DEPTH = 1000
NOT_THE_PROJECTS_OWN = {".git", ".hg", ".svn", "node_modules", "__pycache__", "site-packages"}


class Invalid(Exception):
    """The file does not parse. Line and column count from 1; 0 where there is none."""

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


def files_below(target: Path) -> Iterator[Path]:
    """The file itself, or a folder's data files less those of tools and virtualenvs."""
    if not target.is_dir():
        yield target
        return
    for folder, folders, names in os.walk(target):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if name not in NOT_THE_PROJECTS_OWN and not (here / name / "pyvenv.cfg").exists()
        )
        yield from (
            here / name for name in sorted(names) if kind_of(name) and (here / name).is_file()
        )


def kind_of(name: str) -> str:
    return SUFFIXES.get(Path(name).suffix.lower(), "")


def _refuse_constant(name: str) -> None:
    raise Invalid(f"{name} is not JSON (RFC 8259)")


def _parse_json(data: bytes) -> None:
    try:
        json.loads(data, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise Invalid(error.msg, error.lineno, error.colno) from None


def _parse_toml(data: bytes) -> None:
    try:
        tomllib.loads(data.decode())
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
        if not place:
            raise Invalid(str(error)) from None
        raise Invalid(str(error)[: place.start()], int(place[1]), int(place[2])) from None


def _parse_yaml(data: bytes) -> None:
    import yaml  # noqa: PLC0415 - takes longer than everything else here

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _read_events(yaml, yaml.parse(data, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        text = ", ".join(part for part in (error.context, error.problem) if part)
        raise Invalid(text, *place) from None
    except yaml.YAMLError as error:
        raise Invalid(str(error)) from None


def _read_events(yaml: ModuleType, events: Iterator[Any]) -> None:
    """Events, not values: nothing recurses, aliases are not multiplied out, tags stay unread."""
    anchors: set[str] = set()
    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise RecursionError  # libyaml's time grows with the square of it
        if isinstance(event, yaml.DocumentStartEvent):
            anchors.clear()
        elif isinstance(event, yaml.AliasEvent) and event.anchor not in anchors:
            mark = event.start_mark
            raise Invalid(f"undefined alias {event.anchor}", mark.line + 1, mark.column + 1)
        elif isinstance(event, yaml.NodeEvent) and event.anchor:
            anchors.add(event.anchor)


PARSERS = {"json": _parse_json, "toml": _parse_toml, "yaml": _parse_yaml}


def problem_of(path: Path) -> Invalid | None:
    kind = kind_of(path.name)
    try:
        PARSERS[kind](path.read_bytes())
    except Invalid as invalid:
        return invalid
    except UnicodeDecodeError as error:
        return Invalid(f"is not valid UTF-8: {error.reason} at byte {error.start}")
    except RecursionError:
        return Invalid("is nested too deeply")
    except MemoryError:
        return Invalid("takes more memory to read than a command may use")
    except OSError as error:
        return Invalid(f"cannot be read: {error.strerror}")
    return None


def main(target: str) -> None:
    for path in files_below(Path(target)):
        print(json.dumps({"reading": str(path)}), flush=True)  # noqa: T201 - its only output
        if invalid := problem_of(path):
            finding = {
                "path": str(path),
                "rule": f"invalid-{kind_of(path.name)}",
                "message": str(invalid),
                "line": invalid.line,
                "column": invalid.column,
            }
            print(json.dumps(finding), flush=True)  # noqa: T201
    print(json.dumps({"done": True}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])

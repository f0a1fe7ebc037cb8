"""Whoever calls a verb for a person says who that is: the history names them."""

from __future__ import annotations

import ast
from pathlib import Path

from batches import operations

ROOT = Path(__file__).resolve().parents[2]
VERBS = {name for name in operations.__all__ if name.islower()}
MEASURES = ROOT / "batches" / "management" / "benchmarking.py"


def calls(file: Path) -> list[ast.Call]:
    """The calls of verbs in a file, as ``operations.VERB(…)``."""
    return [
        node
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "operations"
        and node.func.attr in VERBS
    ]


def test_every_door_says_who_asks():
    files = [
        file
        for door in ("api", "admin", "management")
        for file in (ROOT / "batches" / door).rglob("*.py")
        if file != MEASURES
    ]
    found = [(file, call) for file in files for call in calls(file)]

    assert len(found) > 15
    for file, call in found:
        assert "by" in {keyword.arg for keyword in call.keywords}, f"{file}:{call.lineno}"

"""Each thing is done in one place: verbs say who asks, and hints name the data they are about."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from batches import operations

ROOT = Path(__file__).resolve().parents[2]
VERBS = {name for name in operations.__all__ if name.islower()}
MEASURES = {ROOT / "batches" / "management" / name for name in ("benchmarking.py", "peer_ours.py")}
"""Nobody asks there: its rows go with the database that they are measured in."""


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
        if file not in MEASURES
    ]
    found = [(file, call) for file in files for call in calls(file)]

    assert len(found) > 15
    for file, call in found:
        assert "by" in {keyword.arg for keyword in call.keywords}, f"{file}:{call.lineno}"


def test_a_command_that_is_told_names_the_data_that_it_is_about():
    """``typed`` writes it, with ``--data-dir`` where the data is not in its usual place."""
    commands = ROOT / "batches" / "management" / "commands"
    names = "|".join(file.stem for file in commands.glob("[a-z]*.py"))
    named = re.compile(rf"manage\.py ({names}|migrate|createsuperuser)\b")
    for file in (ROOT / "batches" / "management").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        said = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert id(node) in said or not named.search(node.value), f"{file}:{node.lineno}"

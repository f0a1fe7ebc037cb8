"""A small batch of each kind on a project that is shipped, for whoever tries the console."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from batches import operations, registry
from batches.audit import Actor
from batches.models import Batch, Workspace
from batches.submission import Item, Submission

SAMPLE = Path(__file__).parent / "sample"
NAME = "demo"


class DemoTaken(Exception):
    """There is a workspace of that name already, on another folder."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is submitted for a kind."""

    kind: str
    payloads: tuple[dict[str, Any], ...]
    options: dict[str, Any] = field(default_factory=dict)

    def submission(self) -> Submission:
        return Submission(
            kind=self.kind,
            name=f"Demo: {self.kind}",
            workspace=NAME,
            labels=("demo",),
            options=self.options,
            items=[Item(payload) for payload in self.payloads],
        )


def _paths(*paths: str) -> tuple[dict[str, Any], ...]:
    return tuple({"path": path} for path in paths)


SAMPLES = (
    Sample(
        "validation",
        _paths("shop/basket.py", "shop/prices.py", "shop/orders.py", "pyproject.toml", "tests"),
    ),
    Sample("test", _paths("tests/test_basket.py", "tests/test_prices.py", "tests/test_orders.py")),
    Sample(
        "mcp",
        (
            {"type": "list_tools", "server": "filesystem"},
            {"type": "list", "path": "shop"},
            {"type": "read", "path": "README.md"},
            {"type": "write", "path": "notes.txt", "content": "Written by the demo.\n"},
            {"type": "command", "command": "ruff check shop"},
        ),
    ),
)


def workspace(by: Actor) -> Workspace:
    """The sample project as a workspace in the data directory; made once, then left as it is.

    Raises:
        DemoTaken: another folder has its name.
    """
    folder = (settings.DATA_DIR / NAME).resolve()
    if not folder.exists():
        # Whole or not at all: a copy that was interrupted must not be taken for the project.
        with tempfile.TemporaryDirectory(dir=settings.DATA_DIR, prefix=f"{NAME}-") as made:
            copy = Path(made) / NAME
            shutil.copytree(SAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))
            _hand_over(copy)
            copy.rename(folder)
    row: Workspace | None = Workspace.objects.filter(name=NAME).first()
    if row is None:
        return operations.add_workspace(NAME, folder, by=by)
    if Path(row.path) != folder:
        raise DemoTaken(
            f"The workspace {NAME} is {row.path}: remove it, or use another --data-dir."
        )
    return row


def _hand_over(folder: Path) -> None:
    """Commands of a worker that is root run as somebody else, who must be able to write here."""
    if os.geteuid() == 0:
        uid = settings.PROCESSOR_SETTINGS["run_as_uid"]
        for path in (folder, *folder.rglob("*")):
            os.chown(path, uid, uid)


def left_out() -> str:
    """Which kinds have a sample that nothing here could run, in a sentence; empty if none."""
    absent = [sample.kind for sample in SAMPLES if sample.kind not in registry.kinds()]
    return f"Not part of this console, so not shown: {', '.join(absent)}." if absent else ""


def submit(by: Actor, submitted: Callable[[Batch], object] = lambda _batch: None) -> list[Batch]:
    """A batch for each kind that has a sample, but for those in ``left_out``."""
    workspace(by)
    batches = []
    for sample in SAMPLES:
        if sample.kind in registry.kinds():
            batch = operations.submit(by.user, sample.submission(), by=by)
            submitted(batch)
            batches.append(batch)
    return batches

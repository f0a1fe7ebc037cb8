"""A small batch of each kind on a project that is shipped, for whoever tries the console."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from batches import operations, registry
from batches.audit import Actor
from batches.models import Batch, ModelProfile, Workspace
from batches.submission import Item, Submission
from batches.supervision.model_checks import check_models, usual_models

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


AGENT = "agent"
TASKS = (
    {
        "description": "A test of tests/test_prices.py fails: a discount of more than 100 percent "
        "must be refused. Mend discounted() in shop/prices.py."
    },
)
CHECK = "pytest -q tests/test_prices.py"
MODELS_WITHIN = 5.0
"""Seconds for asking whether a model is there: its server is not asked for more."""


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


def choose() -> tuple[list[Sample], list[str]]:
    """What this installation can run, and a sentence for what it cannot."""
    samples = [sample for sample in SAMPLES if sample.kind in registry.kinds()]
    absent = [sample.kind for sample in SAMPLES if sample not in samples]
    told = []
    if AGENT not in registry.kinds():
        absent.append(AGENT)
    else:
        agent = _agent()
        if isinstance(agent, Sample):
            samples.append(agent)
        else:
            told.append(agent)
    if absent:
        told.append(f"Not part of this console, so not shown: {', '.join(absent)}.")
    return samples, told


def _agent() -> Sample | str:
    """For the usual coder, else for the first model with a profile that is there; or why not."""
    wanted = usual_models()
    usual = wanted[0]
    profiles = ModelProfile.objects.filter(enabled=True).order_by("name")
    names = list(dict.fromkeys([*wanted, *profiles.values_list("name", flat=True)]))
    checked = dict(check_models(names, within=MODELS_WITHIN))
    there = [name for name in names if name in checked and checked[name].ok]
    coder = usual if usual in there else next((n for n in there if n not in wanted), None)
    if coder is None:
        why = checked[usual].said if usual in checked else "has not answered in time"
        return f"No agent is shown: the model {usual} {why}"
    # What nobody reviews is left for the person who tries this.
    options = {"coder_model": coder, "apply_changes": False, "check_command": CHECK}
    reviewers = [name for name in wanted[1:] if name in there]
    return Sample(AGENT, TASKS, options | {"reviewer_model": next(iter(reviewers), None)})


def submit(
    by: Actor, samples: Iterable[Sample], submitted: Callable[[Batch], object] = lambda _batch: None
) -> list[Batch]:
    """A batch of each of these."""
    workspace(by)
    batches = []
    for sample in samples:
        batch = operations.submit(by.user, sample.submission(), by=by)
        submitted(batch)
        batches.append(batch)
    return batches

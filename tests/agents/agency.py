"""An agent's attempt for tests: a small shop as its workspace, and who may change it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest

from agents.contract import (
    JSON,
    LimitReached,
    Outcome,
    Rejected,
    Succeeded,
    TimedOut,
    Workspace,
)
from agents.processors.agent import AgentProcessor
from tests.agents.conftest import RecordingContext
from tests.agents.enclosing import BARE, as_repository
from tests.model_server import ModelServer

WRONG = "def total(prices):\n    return sum(prices) - 1\n"
RIGHT = "def total(prices):\n    return sum(prices)\n"
DOCUMENTED = 'def total(prices):\n    """The sum."""\n    return sum(prices)\n'
TEST = "from shop import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n"


@dataclass
class Agency(RecordingContext):
    """An attempt that may change its workspace."""

    effects: list[str] = field(default_factory=list)

    def effect(self, name: str, *, exclusive: bool = False) -> None:
        assert exclusive
        self.effects.append(name)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "shop.py").write_text("def total(prices):\n    return 0\n")
    (folder / "test_shop.py").write_text(TEST)
    as_repository(folder)
    return folder


@pytest.fixture
def context(tmp_path: Path, shop: Path) -> Agency:
    # The libraries of models are loaded before an attempt's time begins: seconds where much runs.
    import_module("agents.coding.running")
    return Agency(
        tmp_path / "attempt", Workspace("shop", shop, BARE), {}, timeout=timedelta(seconds=100)
    )


def run(context: Agency, server: ModelServer, **payload: object) -> Outcome:
    context.settings = {"ollama_base_url": server.url, **context.settings}
    processor = AgentProcessor()
    asked = {
        "description": "Let total add up the prices.",
        "coder_model": "coder",
        "reviewer_model": "reviewer",
        **payload,
    }
    normal = processor.validate(asked, context.settings)
    outcome = processor.run(normal, context)
    if isinstance(outcome, Succeeded | Rejected | LimitReached | TimedOut):
        json.dumps(outcome.result, allow_nan=False)
    return outcome


def result_of(outcome: Outcome) -> JSON:
    assert isinstance(outcome, Succeeded | Rejected | LimitReached | TimedOut), outcome
    return outcome.result


def transcript_of(context: RecordingContext) -> list[JSON]:
    """Every event, in order."""
    return [json.loads(line) for line in context.kept("transcript.jsonl").read_text().splitlines()]

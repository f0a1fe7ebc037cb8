"""Agents on a real small language model, whose server is killed and started again meanwhile."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from batches import operations
from batches.models import Resource, Task
from batches.states import Failure, TaskState
from tests.processes.fleet import Fleet, done, submit, until
from tests.small_model import MODEL, SmallModel

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), pytest.mark.either]

TASKS = int(os.environ.get("REAL_MODEL_TASKS", "6"))
SECONDS_EACH = 40
"""At most, on a machine that has much else to do."""


@pytest.fixture
def workspace(fleet: Fleet, tmp_path: Path) -> str:
    root = tmp_path / "calc"
    root.mkdir()
    (root / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "state"]):
        subprocess.run(["git", *identity, *words], cwd=root, check=True)
    User.objects.create_superuser("tester")
    row = operations.add_workspace("calc", root)
    return row.name


def test_tasks_on_a_real_model_outlive_its_server(fleet: Fleet, workspace: str) -> None:
    with SmallModel() as model:
        fleet.start(slots=2, OLLAMA_BASE_URL=model.url)
        batch = submit(
            "agent",
            *({"description": f"Let add() in calc.py add. ({n})"} for n in range(TASKS)),
            workspace=workspace,
            options={"coder_model": MODEL, "reviewer_model": None, "check_command": None},
            max_attempts=1,
        )
        tasks = Task.objects.filter(batch=batch)
        within = TASKS * SECONDS_EACH
        ended = tasks.exclude(state__in=[TaskState.QUEUED, TaskState.RUNNING])
        until(ended.exists, within=within, what="the first has ended")
        until(tasks.filter(state=TaskState.RUNNING).exists, what="one runs")
        model.kill()
        away = Resource.objects.filter(name=f"model:{MODEL}", away_since__isnull=False)
        until(away.exists, what="the model is known to be away")
        assert not tasks.filter(failure__in=[Failure.ERROR, Failure.LOST]).exists()
        model.start()
        done(batch, within=within)
    for task in tasks:
        assert_honest(task)


def assert_honest(task: Task) -> None:
    """The model talks and calls no tool: nothing is changed, and the answer says so."""
    assert (task.state, task.failure) == (TaskState.FAILED, Failure.REJECTED), task.error
    assert task.failures == 0, "an absent server cost one of the attempts"
    result = task.result
    assert result["ended"] == "unchanged"
    assert result["patch"] is None
    used = result["usage"]["coder"]
    assert used["requests"] == result["loops"] == 2
    assert used["tool_calls"] == 0
    # SmolLM2's tokenizer: about four characters a token of some 600 in each prompt.
    assert 250 < used["input_tokens"] < 800
    assert 2 <= used["output_tokens"] <= 2 * 16
    assert result["summary"]

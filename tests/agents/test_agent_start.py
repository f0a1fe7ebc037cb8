"""How soon the first task of an agent in a fresh slot asks its model."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.agents.enclosing import as_repository
from tests.agents.test_slot import Talk
from tests.model_protocol import Asked, Reply, say
from tests.model_server import ModelServer

MOST_SECONDS = 6.0


def processor_seconds(pid: int) -> float:
    """Time that all threads of a process have had so far (proc(5): utime, stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_first_task_asks_its_model_within_six_seconds_of_work(tmp_path: Path) -> None:
    """Of processor time, which a busy machine does not stretch: that is all it waits for."""
    root = tmp_path / "space"
    root.mkdir()
    (root / "app.py").write_text("X = 1\n")
    as_repository(root)
    needed: list[float] = []

    def answer(_asked: Asked) -> Reply:
        needed.append(processor_seconds(slot.process.pid))
        return say("There is nothing to do.")

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    slot = Talk(scratch)
    try:
        with ModelServer(answer) as server:
            slot.say(op="configure", settings={"ollama_base_url": server.url}, scratch=str(scratch))
            slot.say(
                op="run",
                id="t1",
                attempt=1,
                timeout=60,
                lease=60,
                processor="agents.processors.agent.AgentProcessor",
                workspace={"name": "space", "root": str(root), "environment": {}},
                payload={
                    "description": "Look around.",
                    "coder_model": "coder",
                    "reviewer_model": None,
                    "check_command": None,
                    "max_loops": 1,
                    "apply_changes": False,
                },
            )
            slot.socket.settimeout(50)
            told = slot.hear()
            while told["event"] != "outcome":
                told = slot.hear()
    finally:
        slot.close()
    assert (told["outcome"], told["result"]["ended"]) == ("rejected", "unchanged"), told
    assert 0.1 < needed[0] < MOST_SECONDS
    left = subprocess.run(
        ["git", "worktree", "list"], cwd=root, capture_output=True, text=True, check=True
    )
    assert left.stdout.count("\n") == 1

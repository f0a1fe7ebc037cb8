"""The agent's loop from end to end: real copies, checks and patches, a model server that is
scripted.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from agents.contract import Succeeded
from tests.agents.agency import DOCUMENTED, WRONG, Agency, context, run, shop, transcript_of
from tests.model_protocol import Asked, Reply, call, say, verdict
from tests.model_server import ModelServer

__all__ = ["context", "shop"]


def test_three_loops_end_with_the_patch_applied_and_the_transcript_tells_it(
    context: Agency, shop: Path
) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.schema:
            assert "Let total add up the prices." in asked.task
            documented = '"""The sum."""' in asked.task
            return verdict() if documented else verdict("shop.py: total has no docstring")
        if asked.results:
            return say("Done.")
        if "test_total" in asked.said:
            assert "assert 2 == 3" in asked.said
            return call(("edit_file", {"path": "shop.py", "old_text": " - 1", "new_text": ""}))
        if "no docstring" in asked.said:
            return call(("write_file", {"path": "shop.py", "content": DOCUMENTED}))
        assert asked.turn == 0
        return call(("write_file", {"path": "shop.py", "content": WRONG}))

    with ModelServer(answer) as server:
        outcome = run(context, server)
    assert isinstance(outcome, Succeeded), outcome
    result = outcome.result
    assert (result["ended"], result["loops"], result["applied"]) == ("approved", 3, "applied")
    assert (shop / "shop.py").read_text() == DOCUMENTED
    assert context.effects == ["apply"]
    assert result["check"]["cases"]["fixed"] == ["test_shop.py::test_total"]
    assert result["patch"]["files"][0]["path"] == "shop.py"
    assert result["usage"]["coder"]["requests"] == 6
    assert result["usage"]["reviewer"]["requests"] == 2
    patch = context.kept("changes.patch").read_text()
    assert '+    """The sum."""' in patch
    told = [
        (line["event"], line.get("ok", line.get("approve")))
        for line in transcript_of(context)
        if line["event"] in {"check", "verdict", "tool"}
    ]
    assert told == [
        ("tool", True), ("check", False),
        ("tool", True), ("check", True), ("verdict", False),
        ("tool", True), ("check", True), ("verdict", True),
    ]  # fmt: skip
    git = subprocess.run(
        ["git", "worktree", "list"], cwd=shop, check=True, capture_output=True, text=True
    )
    assert len(git.stdout.splitlines()) == 1

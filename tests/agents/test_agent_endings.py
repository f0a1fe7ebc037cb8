"""How an agent's attempt ends, and what of its work is kept: one ending a test."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from agents.contract import LimitReached, Rejected, Succeeded, TimedOut
from tests.agents.agency import RIGHT, WRONG, Agency, context, result_of, run, shop, transcript_of
from tests.model_protocol import Asked, Reply, call, say, verdict
from tests.model_server import ModelServer

__all__ = ["context", "shop"]

UNREVIEWED = {"reviewer_model": None}
ALONE = {"reviewer_model": None, "check_command": None}
"""Neither a check nor a reviewer: where the ending is not about them."""


def writing(content: str, path: str = "shop.py") -> Callable[[Asked], Reply]:
    """A coder that writes one file, and a reviewer that is content."""

    def answer(asked: Asked) -> Reply:
        if asked.schema:
            return verdict()
        if asked.turn == 0:
            return call(("write_file", {"path": path, "content": content}))
        return say("Done.")

    return answer


def test_without_a_reviewer_a_green_check_is_enough(context: Agency, shop: Path) -> None:
    with ModelServer(writing(RIGHT)) as server:
        result = result_of(run(context, server, **UNREVIEWED))
    assert (result["ended"], result["verdict"], result["applied"]) == ("passed", None, "applied")
    assert result["usage"]["reviewer"] is None
    assert (shop / "shop.py").read_text() == RIGHT


def test_without_a_check_the_reviewer_decides(context: Agency) -> None:
    with ModelServer(writing(WRONG)) as server:
        result = result_of(run(context, server, check_command=None))
    assert (result["ended"], result["check"], result["validator_ok"]) == ("approved", None, None)


def test_a_patch_may_be_left_for_a_person(context: Agency, shop: Path) -> None:
    with ModelServer(writing(RIGHT)) as server:
        outcome = run(context, server, apply_changes=False, **ALONE)
    assert isinstance(outcome, Succeeded)
    assert outcome.result["applied"] == "pending"
    assert "+    return sum(prices)" in context.kept("changes.patch").read_text()
    assert "return 0" in (shop / "shop.py").read_text()
    assert context.effects == []


def test_a_red_check_is_the_answer_once_the_loops_are_used_up(context: Agency, shop: Path) -> None:
    with ModelServer(writing(WRONG)) as server:
        outcome = run(context, server, max_loops=2, **UNREVIEWED)
    assert isinstance(outcome, Rejected)
    assert outcome.reason.startswith("the check is red after 2 loops: ")
    result = outcome.result
    assert (result["ended"], result["loops"], result["applied"]) == ("check_failed", 2, "none")
    assert result["patch"]["files"][0]["path"] == "shop.py"
    assert "return 0" in (shop / "shop.py").read_text()


def test_a_reviewer_that_never_approves_has_the_last_word(context: Agency) -> None:
    def answer(asked: Asked) -> Reply:
        return verdict("shop.py: I dislike it") if asked.schema else writing(RIGHT)(asked)

    with ModelServer(answer) as server:
        outcome = run(context, server, max_loops=2, check_command=None)
    assert isinstance(outcome, Rejected)
    assert "I dislike it" in outcome.reason
    assert outcome.result["verdict"] == {"approve": False, "problems": ["shop.py: I dislike it"]}


def test_a_coder_that_changes_nothing_is_asked_once_more(context: Agency) -> None:
    asked_for: list[str] = []

    def answer(asked: Asked) -> Reply:
        asked_for.append(asked.said)
        return say("All is well as it is.")

    with ModelServer(answer) as server:
        outcome = run(context, server)
    assert isinstance(outcome, Rejected)
    assert outcome.result["ended"] == "unchanged"
    assert "All is well as it is." in outcome.reason
    assert "No file has been changed." in asked_for[1]
    assert len(asked_for) == 2


def test_tests_that_the_agent_rewrites_prove_nothing(context: Agency, shop: Path) -> None:
    easy = "def test_total():\n    assert True\n"
    with ModelServer(writing(easy, "test_shop.py")) as server:
        outcome = run(context, server, max_loops=1, **UNREVIEWED)
    assert isinstance(outcome, Rejected)
    result = outcome.result
    assert result["ended"] == "check_failed"
    assert result["validator_ok"] is False
    assert result["check"]["edited"]["files"] == ["test_shop.py"]
    assert "with the tests as they were before the patch" in outcome.reason


def test_a_change_that_somebody_made_meanwhile_is_merged(context: Agency, shop: Path) -> None:
    def answer(asked: Asked) -> Reply:
        (shop / "NOTES.md").write_text("Meanwhile.\n")
        (shop / "shop.py").write_text('"""A shop."""\n\n\ndef total(prices):\n    return 0\n')
        return writing(RIGHT)(asked)

    with ModelServer(answer) as server:
        outcome = run(context, server, **ALONE)
    assert isinstance(outcome, Succeeded)
    assert (shop / "shop.py").read_text() == f'"""A shop."""\n\n\n{RIGHT}'


def test_a_conflict_with_the_workspace_keeps_the_patch(context: Agency, shop: Path) -> None:
    theirs = "def total(prices):\n    return max(prices)\n"

    def answer(asked: Asked) -> Reply:
        (shop / "shop.py").write_text(theirs)
        return writing(RIGHT)(asked)

    with ModelServer(answer) as server:
        outcome = run(context, server, **ALONE)
    assert isinstance(outcome, Rejected)
    assert outcome.result["applied"] == "conflict"
    assert outcome.result["ok"] is False
    (conflict,) = outcome.result["conflicts"]
    assert conflict["path"] == "shop.py"
    assert "max(prices)" in conflict["hunks"]
    assert (shop / "shop.py").read_text() == theirs
    assert "+    return sum(prices)" in context.kept("changes.patch").read_text()


def test_a_task_begins_with_what_its_predecessor_left(context: Agency, shop: Path) -> None:
    with ModelServer(writing("LIMIT = 3\n", "limits.py")) as server:
        first = result_of(run(context, server, check_command=None, apply_changes=False))
    patch = context.kept("changes.patch").read_text()
    start = {"task": "t1", "base_commit": first["base_commit"], "patch": patch}
    next_one = Agency(context.folder.parent / "second", context.workspace, {})
    next_one.inputs = {"start": [start]}

    def answer(asked: Asked) -> Reply:
        if asked.schema:
            assert "limits.py" not in asked.task
            return verdict()
        match asked.turn:
            case 0:
                return call(("read_file", {"path": "limits.py"}))
            case 1:
                assert "LIMIT = 3" in asked.said
                return call(("write_file", {"path": "shop.py", "content": RIGHT}))
        return say("Done.")

    with ModelServer(answer) as server:
        second = result_of(run(next_one, server, check_command=None))
    assert [file["path"] for file in second["patch"]["files"]] == ["shop.py"]


def test_what_the_guardrail_stops_is_counted_and_told(context: Agency) -> None:
    def answer(asked: Asked) -> Reply:
        match asked.turn:
            case 0:
                return call(("run_command", {"command": "rm -rf /"}))
            case 1:
                assert "refused" in asked.said
                return call(("read_file", {"path": "../../etc/passwd"}))
        return say("I cannot.")

    with ModelServer(answer) as server:
        outcome = run(context, server)
    assert isinstance(outcome, Rejected)
    assert outcome.result["ended"] == "blocked"
    assert outcome.result["blocked"] == 2
    told = [line["blocked"] for line in transcript_of(context) if line["event"] == "tool"]
    assert told == [True, True]


def test_more_files_than_a_task_may_change_end_it(context: Agency) -> None:
    profile = {"model": "coder", "max_files": 2}

    def answer(asked: Asked) -> Reply:
        return call(("write_file", {"path": f"new_{asked.turn}.py", "content": "X = 1\n"}))

    with ModelServer(answer) as server:
        context.settings = {"models": {"coder": {**profile, "endpoint": server.url}}}
        outcome = run(context, server, **ALONE)
    assert isinstance(outcome, LimitReached)
    assert outcome.limit == "files"
    assert len(outcome.result["patch"]["files"]) == 2


def test_an_attempt_whose_time_is_nearly_up_keeps_its_patch(context: Agency) -> None:
    context.timeout = timedelta(seconds=6)

    def answer(asked: Asked) -> Reply:
        if asked.turn:
            time.sleep(30 if asked.turn == 1 else 0)
            return say("Late.")
        return writing(RIGHT)(asked)

    context.begun = time.monotonic()
    with ModelServer(answer) as server:
        outcome = run(context, server, **ALONE)
        assert context.remaining() > timedelta(0)
        server.stop()
    assert isinstance(outcome, TimedOut)
    assert outcome.result["patch"]["files"][0]["path"] == "shop.py"


def test_a_command_that_runs_on_when_time_is_nearly_up_is_ended(context: Agency) -> None:
    context.timeout = timedelta(seconds=6)
    endless = "import time\n\n\ndef test_wait():\n    time.sleep(600)\n"

    def answer(asked: Asked) -> Reply:
        assert asked.turn == 0
        return call(
            ("write_file", {"path": "test_wait.py", "content": endless}),
            ("run_command", {"command": "pytest -q test_wait.py"}),
        )

    context.begun = time.monotonic()
    with ModelServer(answer) as server:
        outcome = run(context, server, **ALONE)
    assert context.remaining() > timedelta(0)
    assert isinstance(outcome, TimedOut)
    assert [file["path"] for file in outcome.result["patch"]["files"]] == ["test_wait.py"]
    assert outcome.result["usage"]["coder"]["requests"] == 1


def test_nothing_is_left_of_the_copy(context: Agency, shop: Path) -> None:
    with ModelServer(writing(RIGHT)) as server:
        run(context, server, **ALONE)
    assert list(context.workdir.rglob("shop.py")) == []
    listed = subprocess.run(
        ["git", "status", "--porcelain", "--ignored"],
        cwd=shop, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert listed.stdout == " M shop.py\n"

"""What becomes of an agent's task when its model server fails, or its model answers nonsense."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.contract import LimitReached, Outcome, Rejected, Succeeded, TryAgain, Unavailable
from tests.agents.agency import RIGHT, Agency, context, run, shop
from tests.agents.enclosing import as_repository
from tests.model_protocol import (
    DROPPED,
    EMPTY,
    STALLED,
    Asked,
    Reply,
    call,
    garbled,
    page,
    say,
    status,
    verdict,
)
from tests.model_server import Answer, ModelServer

__all__ = ["context", "shop"]

WRITE = call(("write_file", {"path": "shop.py", "content": RIGHT}))
UNREVIEWED: dict[str, Any] = {"reviewer_model": None, "check_command": None}
REVIEWED: dict[str, Any] = {"check_command": None}


@pytest.fixture
def attempt(context: Agency) -> Callable[..., Outcome]:
    """Runs a task against a script; nothing may be applied unless it succeeds."""

    def done(answer: Answer, profile: dict[str, Any] | None = None, **payload: Any) -> Outcome:
        with ModelServer(answer) as server:
            context.settings = {"models": {"coder": {"endpoint": server.url, **(profile or {})}}}
            outcome = run(context, server, **{**UNREVIEWED, **payload})
        assert bool(context.effects) == isinstance(outcome, Succeeded)
        return outcome

    return done


Attempt = Callable[..., Outcome]


def after_a_change(reply: Reply) -> Answer:
    """Write the right thing; then this, each time."""
    return lambda asked: WRITE if asked.turn == 0 else reply


def with_a_long_file(shop: Path) -> None:
    (shop / "long.txt").write_text("all work and no play\n" * 400)
    as_repository(shop)


def once(reply: Reply) -> Answer:
    """This first; then write the right thing, and stop."""

    def answer(asked: Asked) -> Reply:
        if len(asked.messages) == 2:
            return reply
        return say("Done.") if asked.said.startswith("shop.py written") else WRITE

    return answer


# -- the server


def test_a_server_that_is_down_is_waited_for(context: Agency) -> None:
    server = ModelServer(lambda _asked: EMPTY)
    server.start()
    server.stop()
    outcome = run(context, server, **UNREVIEWED)
    assert isinstance(outcome, Unavailable)
    assert outcome.resource == "model:coder"
    assert "run `ollama serve`" in outcome.reason


def test_a_server_that_is_killed_between_two_answers_is_waited_for(
    context: Agency, shop: Path
) -> None:
    def answer(_asked: Asked) -> Reply:
        server.stop()
        return WRITE

    with ModelServer(answer) as server:
        outcome = run(context, server, **UNREVIEWED)
    assert isinstance(outcome, Unavailable)
    assert "run `ollama serve`" in outcome.reason
    assert (shop / "shop.py").read_text() != RIGHT


def test_a_server_that_is_killed_in_mid_answer_is_waited_for(context: Agency) -> None:
    def answer(_asked: Asked) -> Reply:
        server.stop()
        return DROPPED

    with ModelServer(answer) as server:
        outcome = run(context, server, **UNREVIEWED)
    assert isinstance(outcome, Unavailable)


def test_an_answer_that_breaks_off_is_tried_again_where_the_server_goes_on(
    attempt: Attempt,
) -> None:
    """At a cost: a proxy that cuts each long answer would else be asked for ever."""
    outcome = attempt(after_a_change(DROPPED))
    assert isinstance(outcome, TryAgain)


def test_a_server_that_stalls_in_mid_answer_is_tried_again(attempt: Attempt) -> None:
    outcome = attempt(after_a_change(STALLED), {"request_timeout": 1})
    assert isinstance(outcome, TryAgain)
    assert "no answer within 1 s" in outcome.reason


def test_an_internal_error_is_tried_again_with_its_words(attempt: Attempt) -> None:
    outcome = attempt(after_a_change(status(500, "model runner has unexpectedly stopped")))
    assert isinstance(outcome, TryAgain)
    assert "500" in outcome.reason
    assert "unexpectedly stopped" in outcome.reason


@pytest.mark.parametrize("code", [429, 503])
def test_a_server_that_has_too_much_to_do_is_waited_for(attempt: Attempt, code: int) -> None:
    outcome = attempt(after_a_change(status(code, "server busy")))
    assert isinstance(outcome, Unavailable)
    assert "busy" in outcome.reason


def test_a_model_that_was_never_pulled_is_waited_for(context: Agency) -> None:
    with ModelServer(lambda _asked: EMPTY, models={}) as server:
        outcome = run(context, server, **UNREVIEWED)
    assert isinstance(outcome, Unavailable)
    assert "run `ollama pull coder`" in outcome.reason
    assert not server.asked


def test_a_model_that_is_removed_meanwhile_is_waited_for(context: Agency) -> None:
    def answer(_asked: Asked) -> Reply:
        server.models.clear()
        server.windows.clear()
        return WRITE

    with ModelServer(answer) as server:
        outcome = run(context, server, **UNREVIEWED)
    assert isinstance(outcome, Unavailable)
    assert "run `ollama pull coder`" in outcome.reason


def test_a_web_page_in_place_of_the_server_is_no_model(context: Agency) -> None:
    with ModelServer(lambda _asked: EMPTY, fails=lambda _path: page()) as server:
        outcome = run(context, server, **UNREVIEWED)
    assert isinstance(outcome, Unavailable)
    assert "is that the right address?" in outcome.reason


def test_a_web_page_in_place_of_an_answer_is_tried_again(attempt: Attempt) -> None:
    outcome = attempt(after_a_change(page()))
    assert isinstance(outcome, TryAgain)


def test_an_api_key_that_is_refused_waits_for_another(context: Agency) -> None:
    with ModelServer(lambda _asked: EMPTY, api_key="right") as server:
        told = {"endpoint": server.url, "api_key": "wrong", "protocol": "openai"}
        context.settings = {"models": {"coder": told}}
        outcome = run(context, server, **UNREVIEWED)
    assert isinstance(outcome, Unavailable)
    assert "API key" in outcome.reason
    assert "wrong" not in outcome.reason


def test_a_model_that_cannot_call_tools_is_no_coder(attempt: Attempt) -> None:
    """Ollama's words; asking again changes nothing."""
    outcome = attempt(lambda _asked: status(400, "coder does not support tools"))
    assert isinstance(outcome, Rejected)
    assert "does not support tools" in outcome.reason
    assert outcome.result["ended"] == "gave_up"


def test_a_profile_with_a_problem_is_waited_for_with_its_words(attempt: Attempt) -> None:
    outcome = attempt(lambda _asked: EMPTY, {"problem": "the secret MODEL_KEY is not set"})
    assert outcome == Unavailable("model:coder", "the secret MODEL_KEY is not set")


def test_a_reviewer_that_is_away_is_named(context: Agency) -> None:
    def answer(_asked: Asked) -> Reply:
        server.models.pop("reviewer", None)
        server.windows.pop("reviewer:latest-ctx16384", None)
        return WRITE if not server.asked[1:] else say("Done.")

    with ModelServer(answer) as server:
        outcome = run(context, server, check_command=None)
    assert isinstance(outcome, Unavailable)
    assert outcome.resource == "model:reviewer"


# -- the model


@pytest.mark.parametrize(
    "nonsense",
    [
        garbled("write_file", '{"path": "shop.py", "content": '),
        garbled("write_file", '"shop.py"'),
        garbled("write_file", '{"path": "shop.py"}'),
        garbled("delete_everything", "{}"),
        EMPTY,
    ],
    ids=["cut", "no-object", "missing", "unknown", "empty"],
)
def test_one_answer_that_cannot_be_used_is_told_to_the_model_and_made_good(
    attempt: Attempt, nonsense: Reply, shop: Path
) -> None:
    outcome = attempt(once(nonsense))
    assert isinstance(outcome, Succeeded), outcome
    assert (shop / "shop.py").read_text() == RIGHT


@pytest.mark.parametrize(
    "nonsense",
    [garbled("write_file", "{{{"), garbled("delete_everything", "{}"), EMPTY],
    ids=["malformed", "unknown", "empty"],
)
def test_a_model_that_never_makes_sense_gives_up_and_keeps_its_patch(
    attempt: Attempt, nonsense: Reply, context: Agency
) -> None:
    outcome = attempt(after_a_change(nonsense))
    assert isinstance(outcome, Rejected)
    assert outcome.result["ended"] == "gave_up"
    assert outcome.result["patch"]["files"][0]["path"] == "shop.py"
    assert "+    return sum(prices)" in context.kept("changes.patch").read_text()
    assert outcome.result["usage"]["coder"]["requests"] < 12


def test_a_reviewer_that_never_answers_by_its_schema_gives_up(attempt: Attempt) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.schema:
            return say("Looks good to me!")
        return after_a_change(say("Done."))(asked)

    outcome = attempt(answer, reviewer_model="reviewer")
    assert isinstance(outcome, Rejected)
    assert outcome.result["ended"] == "gave_up"
    assert outcome.result["verdict"] is None
    assert outcome.result["patch"] is not None


def test_a_reviewer_may_correct_an_answer_that_misses_the_schema(attempt: Attempt) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.schema:
            return verdict() if asked.turn else say('{"approve": "maybe"}')
        return after_a_change(say("Done."))(asked)

    outcome = attempt(answer, reviewer_model="reviewer")
    assert isinstance(outcome, Succeeded)
    assert outcome.result["usage"]["reviewer"]["requests"] == 2


# -- limits


@pytest.mark.parametrize(("limit", "most"), [("requests", 4), ("tool_calls", 3), ("tokens", 6000)])
def test_a_model_that_never_stops_comes_to_a_limit(
    attempt: Attempt, limit: str, most: int, context: Agency
) -> None:
    def answer(asked: Asked) -> Reply:
        return call(("read_file", {"path": "shop.py"})) if asked.turn else WRITE

    outcome = attempt(answer, {f"max_{limit}": most})
    assert isinstance(outcome, LimitReached), outcome
    assert outcome.limit == limit
    assert outcome.result["patch"]["files"][0]["path"] == "shop.py"
    used = outcome.result["usage"]["coder"]
    spent = used["input_tokens"] + used["output_tokens"] if limit == "tokens" else used[limit]
    assert 0 < spent <= most + (2000 if limit == "tokens" else 0)
    assert context.kept("transcript.jsonl").read_text()


def test_an_endless_change_of_mind_ends_with_the_loops(attempt: Attempt) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.schema:
            return verdict("shop.py: once more")
        if asked.last["role"] == "tool":
            return say("Done.")
        content = f"{RIGHT}# {asked.turn}\n"
        return call(("write_file", {"path": "shop.py", "content": content}))

    outcome = attempt(answer, reviewer_model="reviewer", max_loops=3)
    assert isinstance(outcome, Rejected)
    assert (outcome.result["ended"], outcome.result["loops"]) == ("reviewer_refused", 3)


def test_a_prompt_that_the_server_cut_in_the_first_turn_is_noticed(attempt: Attempt) -> None:
    outcome = attempt(lambda _asked: WRITE.counted(60))
    assert isinstance(outcome, LimitReached)
    assert outcome.limit == "context"
    assert "num_ctx" in outcome.reason


def test_a_prompt_that_the_server_cut_later_is_noticed(attempt: Attempt, shop: Path) -> None:
    """As Ollama does it: a good answer, and fewer tokens read than were sent."""
    with_a_long_file(shop)
    last = 0

    def answer(asked: Asked) -> Reply:
        nonlocal last
        if asked.turn < 2:
            last = asked.tokens
            return WRITE if asked.turn == 0 else call(("read_file", {"path": "long.txt"}))
        return say("Done.").counted(last)

    outcome = attempt(answer)
    assert isinstance(outcome, LimitReached)
    assert outcome.limit == "context"
    assert outcome.result["patch"] is not None


def test_a_conversation_that_outgrows_its_window_is_not_sent(attempt: Attempt, shop: Path) -> None:
    with_a_long_file(shop)

    def answer(asked: Asked) -> Reply:
        assert asked.tokens < 4096
        return call(("read_file", {"path": "long.txt"}))

    outcome = attempt(answer, {"num_ctx": 4096})
    assert isinstance(outcome, LimitReached)
    assert outcome.limit == "context"


def test_an_answer_that_is_cut_off_by_the_window_is_a_limit(attempt: Attempt) -> None:
    cut = Reply(calls=(("write_file", '{"path": "shop.py", "content": "def '),), finish="length")
    outcome = attempt(after_a_change(cut))
    assert isinstance(outcome, LimitReached)
    assert outcome.limit == "context"

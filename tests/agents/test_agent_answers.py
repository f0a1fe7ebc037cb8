"""An answer of a model that does not end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.coding.bounded import ANSWER_BYTES
from agents.contract import LimitReached
from tests.agents.agency import RIGHT, Agency, context, result_of, run, shop
from tests.model_protocol import Asked, Reply, call, say
from tests.model_server import ModelServer

__all__ = ["context", "shop"]

WRITE = call(("write_file", {"path": "shop.py", "content": RIGHT}))


CHUNKED = replace(say("x" * 65_536), breaks="never ends")
WHOLE = say("x" * (ANSWER_BYTES + 1))


@pytest.mark.parametrize(
    ("role", "endless"), [("coder", CHUNKED), ("reviewer", WHOLE)], ids=["chunked", "whole"]
)
def test_an_answer_without_end_is_broken_off_and_ends_the_task(
    context: Agency, role: str, endless: Reply
) -> None:

    def answer(asked: Asked) -> Reply:
        if asked.model.startswith(role):
            return endless
        return say("Done.") if asked.said.startswith("shop.py written") else WRITE

    reviewer = "reviewer" if role == "reviewer" else None
    with ModelServer(answer) as server:
        outcome = run(context, server, reviewer_model=reviewer, check_command=None)
    assert isinstance(outcome, LimitReached)
    assert outcome.limit == "answer"
    assert f"{role} was stopped in an answer of more than {ANSWER_BYTES} bytes" in outcome.reason
    assert result_of(outcome)["ended"] == "limit"
    assert not context.effects

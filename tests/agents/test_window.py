"""What fits a model's window, and how a server that cut a prompt is found out."""

from __future__ import annotations

import pytest
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from agents.coding.window import LEFT_OUT, ContextFull, Window, size


def conversation(answers: int, each: int = 400) -> list[ModelMessage]:
    """A task, and so many calls of a tool with answers of ``each`` characters."""
    messages: list[ModelMessage] = [
        ModelRequest([UserPromptPart("x" * 400)], instructions="y" * 400)
    ]
    for number in range(answers):
        messages += [
            ModelResponse([ToolCallPart("read_file", {"path": "a"}, f"c{number}")]),
            ModelRequest(
                [ToolReturnPart("read_file", "z" * each, f"c{number}")], instructions="y" * 400
            ),
        ]
    return messages


def test_instructions_are_counted_once() -> None:
    assert size(conversation(0)) == 800
    assert size(conversation(1)) == 800 + 400 + len('read_file{"path":"a"}')


def test_what_fits_is_sent_as_it_is() -> None:
    messages = conversation(5)
    assert Window(100_000, "m").fitted(messages, 0) == messages
    assert Window(None, "m").fitted(messages * 100, 0) == messages * 100


def test_old_answers_make_room_for_new_ones() -> None:
    messages = conversation(40)
    window = Window(4000, "m")
    window.counted(4000, 1000)
    fitted = window.fitted(messages, 0)
    answers = [
        part.content
        for message in fitted
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    ]
    assert answers[0] == LEFT_OUT
    assert answers[-4:] == ["z" * 400] * 4
    assert size(fitted) / 4 <= 3000
    assert size(messages) > 16_000, "the history itself stays whole"


def test_what_cannot_be_shortened_is_not_sent() -> None:
    with pytest.raises(ContextFull, match="raise num_ctx"):
        Window(2000, "m").fitted([ModelRequest([UserPromptPart("x" * 20_000)])], 0)


@pytest.mark.parametrize(
    ("num_ctx", "counts"),
    [
        pytest.param(2000, [(16_200, 2000)], id="the first prompt is cut"),
        pytest.param(2000, [(4000, 1000), (7600, 1000)], id="a later one is cut to half"),
        pytest.param(None, [(4000, 1000), (40_000, 4096)], id="by a window nobody told"),
    ],
)
def test_a_prompt_of_which_too_little_was_counted_was_cut(
    num_ctx: int | None, counts: list[tuple[int, int]]
) -> None:
    window = Window(num_ctx, "m")
    *fine, cut = counts
    for characters, tokens in fine:
        window.counted(characters, tokens)
    with pytest.raises(ContextFull, match="the server cut it"):
        window.counted(*cut)


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param([(4000, 1000), (8000, 1900)], id="all of it was read"),
        pytest.param([(4000, 1000), (8000, 0)], id="a server that does not count"),
        pytest.param([(400, 100), (800, 120)], id="far from the end: another text"),
        pytest.param([(4000, 800), (8000, 2000)], id="another text has other tokens"),
    ],
)
def test_a_prompt_that_was_read_is_not_suspected(counts: list[tuple[int, int]]) -> None:
    window = Window(2500, "m")
    for characters, tokens in counts:
        window.counted(characters, tokens)


def test_a_model_that_only_talks_has_no_answers_to_leave_out() -> None:
    said: list[ModelMessage] = [ModelResponse([TextPart("x" * 9000)])]
    with pytest.raises(ContextFull):
        Window(2000, "m").fitted(said, 0)

"""What fits a model's context window, and whether a server read all of what it was sent.

Ollama cuts a prompt that is longer than the window from its front and answers as if nothing had
happened (ollama issue 3839): only the tokens it counted tell.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
)

ANSWER_TOKENS = 1024
"""Kept free for the answer."""
USUAL_CHARACTERS = 4.0
"""A token of prose and code has three to five; used until the server has counted once."""
MOST_CHARACTERS = 8.0
"""No text of a task comes to so many a token: fewer tokens were counted, so some were not read."""
FULL = 0.75
"""Of the window: beyond it, old answers of tools are left out."""
KEPT_ANSWERS = 4
"""Newest answers of tools, which are never left out."""
LEFT_OUT = "[left out, to save room: ask again if it is needed]"
NEAR = 0.7
"""Of the window."""
SHORTFALL, LARGE_SHORTFALL = 0.75, 0.5
"""Counted so little of what was expected, near the window's end and anywhere else: texts differ in
how many characters come to a token."""


class ContextFull(Exception):
    """The conversation does not fit the model's window, or did not: the text says what would."""


class Window:
    """One conversation's size. ``num_ctx`` None: the server's window is not known."""

    def __init__(self, num_ctx: int | None, model: str) -> None:
        self._num_ctx = num_ctx
        self._model = model
        self._characters = 0.0
        """A token, as this server counted; 0 until it has."""
        self._knows_tools = True
        """Templates of models that call no tools leave their descriptions out."""

    def fitted(self, messages: Sequence[ModelMessage], tools: int) -> list[ModelMessage]:
        """The messages, old answers of tools left out where all would not fit.

        ``tools`` is the size of the tools' descriptions in characters.

        Raises:
            ContextFull: they do not fit even so.
        """
        fitted = list(messages)
        if self._num_ctx is None:
            return fitted
        old = _old_answers(messages)
        while old and self._expected(size(fitted) + tools) > self._num_ctx * FULL:
            gone = set(old[: max(1, len(old) // 4)])
            old = old[len(gone) :]
            fitted = [_without(message, gone) for message in fitted]
        expected = self._expected(size(fitted) + tools)
        if expected + ANSWER_TOKENS > self._num_ctx:
            raise ContextFull(
                f"the conversation has come to about {expected:,.0f} tokens; {self._model} holds "
                f"{self._num_ctx:,}, its answer included: raise num_ctx in its profile, or make "
                "the task smaller"
            )
        return fitted

    def counted(self, characters: int, tokens: int, tools: int = 0) -> None:
        """The server counted so many tokens of so many characters, and of the tools besides.

        Raises:
            ContextFull: it cannot have read all of them.
        """
        if not tokens:
            return  # it does not count
        if not self._characters and tokens < (characters + tools) / MOST_CHARACTERS:
            self._knows_tools = False
        if self._knows_tools:
            characters += tools
        expected = characters / (self._characters or MOST_CHARACTERS)
        near = self._num_ctx is not None and expected > self._num_ctx * NEAR
        share = (SHORTFALL if near else LARGE_SHORTFALL) if self._characters else 1.0
        if tokens < expected * share:
            raise ContextFull(
                f"{self._model} counted {tokens:,} tokens of a prompt of {characters:,} characters "
                f"(about {expected:,.0f}): the server cut it. Raise num_ctx in its profile, and "
                "look at the server's own limit"
            )
        if not self._characters:
            self._characters = min(characters / tokens, MOST_CHARACTERS)

    def _expected(self, characters: int) -> float:
        return characters / (self._characters or USUAL_CHARACTERS)


def size(messages: Sequence[ModelMessage]) -> int:
    """Characters of what a server is sent of these messages, but for their frame."""
    # Every request of the history holds the instructions; they are sent once.
    told = next((m.instructions for m in reversed(messages) if isinstance(m, ModelRequest)), None)
    return len(told or "") + sum(len(text) for message in messages for text in _texts(message))


def _texts(message: ModelMessage) -> Iterator[str]:
    for part in message.parts:
        match part:
            case ToolCallPart():
                yield part.tool_name + part.args_as_json_str()
            case ToolReturnPart():
                yield part.model_response_str()
            case TextPart() | ThinkingPart():
                yield part.content
            case _:
                content = getattr(part, "content", "")
                yield content if isinstance(content, str) else json.dumps(content, default=str)


def _old_answers(messages: Sequence[ModelMessage]) -> list[str]:
    """The calls whose answers may be left out, the oldest first."""
    answers = [
        part.tool_call_id
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart) and len(part.model_response_str()) > len(LEFT_OUT)
    ]
    return answers[:-KEPT_ANSWERS]


def _without(message: ModelMessage, calls: Collection[str]) -> ModelMessage:
    """The message without what these calls were answered; it is a copy where one is in it."""
    if not isinstance(message, ModelRequest):
        return message
    parts = [
        ToolReturnPart(part.tool_name, LEFT_OUT, part.tool_call_id)
        if isinstance(part, ToolReturnPart) and part.tool_call_id in calls
        else part
        for part in message.parts
    ]
    return replace(message, parts=parts)

"""One request for an answer of a model, held to the protocol, and the replies a test may script."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

TOOLS = frozenset(
    {"list_files", "read_file", "search", "write_file", "edit_file", "run_command"}
)  # fmt: skip
"""What a coder is offered, all of it in each request."""
KEYS = frozenset(
    {
        "messages",
        "model",
        "parallel_tool_calls",
        "response_format",
        "stream",
        "temperature",
        "tool_choice",
        "tools",
    }
)
CHARACTERS_PER_TOKEN = 4


class Unexpected(Exception):
    """A request that no part of the product may send."""


@dataclass(frozen=True)
class Asked:
    """One request for an answer, found to be in order."""

    model: str
    messages: list[dict[str, Any]]
    tools: frozenset[str]
    """Empty where a reviewer is asked."""
    schema: dict[str, Any] | None
    """What the answer must look like, where a reviewer is asked."""
    temperature: float | None
    tokens: int
    """Of the whole request, as this server counts."""

    @property
    def instructions(self) -> str:
        return str(self.messages[0]["content"])

    @property
    def task(self) -> str:
        """What the conversation began with."""
        return str(self.messages[1]["content"])

    @property
    def last(self) -> dict[str, Any]:
        return self.messages[-1]

    @property
    def said(self) -> str:
        """What the last message holds: the user's words, or what a tool answered."""
        return str(self.last["content"])

    @property
    def turn(self) -> int:
        """Answers that this conversation has already."""
        return sum(message["role"] == "assistant" for message in self.messages)

    @property
    def results(self) -> list[str]:
        """What the tools called in the last answer gave back."""
        results: list[str] = []
        for message in reversed(self.messages):
            if message["role"] != "tool":
                break
            results.insert(0, str(message["content"]))
        return results


@dataclass(frozen=True)
class Reply:
    """What the server does with one request."""

    text: str | None = None
    calls: tuple[tuple[str, str], ...] = ()
    """Tool and arguments, as the text that is sent."""
    finish: str = "stop"
    prompt_tokens: int | None = None
    """Told in place of those it counted."""
    status: int = 200
    body: str | None = None
    """Sent as it stands, in place of an answer."""
    content_type: str = "application/json"
    breaks: Literal["", "drops", "stalls", "never ends"] = ""
    """In the middle of the answer: closes the connection, sends nothing more, or goes on, chunk
    after chunk, for as long as somebody reads."""

    def counted(self, tokens: int) -> Reply:
        return replace(self, prompt_tokens=tokens)


def say(text: str) -> Reply:
    return Reply(text=text)


def call(*calls: tuple[str, dict[str, Any]]) -> Reply:
    return Reply(calls=tuple((tool, json.dumps(arguments)) for tool, arguments in calls))


def garbled(tool: str, arguments: str) -> Reply:
    """A call whose arguments are this text."""
    return Reply(calls=((tool, arguments),))


def verdict(*problems: str) -> Reply:
    """An approval where there are no problems."""
    return Reply(text=json.dumps({"approve": not problems, "problems": list(problems)}))


def status(code: int, message: str = "it broke") -> Reply:
    """As Ollama reports an error to OpenAI's clients."""
    error = {"message": message, "type": "api_error", "param": None, "code": None}
    return Reply(status=code, body=json.dumps({"error": error}))


def page() -> Reply:
    """What a proxy or another site answers."""
    html = "<!doctype html><html><body><h1>Welcome</h1></body></html>"
    return Reply(body=html, content_type="text/html; charset=utf-8")


EMPTY = Reply()
DROPPED = Reply(text="I have changed", breaks="drops")
STALLED = Reply(text="I have changed", breaks="stalls")


def read(body: dict[str, Any]) -> Asked:
    if unknown := set(body) - KEYS:
        raise Unexpected(f"nobody is to send {sorted(unknown)}")
    if body.get("stream"):
        raise Unexpected("nobody is to ask for a stream")
    messages: list[dict[str, Any]] = body["messages"]
    _check_order(messages)
    tools = frozenset(tool["function"]["name"] for tool in body.get("tools") or ())
    form = body.get("response_format")
    if tools and (tools != TOOLS or form):
        raise Unexpected(f"a coder is offered {sorted(tools)}, its answer a {form}")
    if not tools and (form or {}).get("type") != "json_schema":
        raise Unexpected("a reviewer is to be held to a schema")
    return Asked(
        model=body["model"],
        messages=messages,
        tools=tools,
        schema=form["json_schema"]["schema"] if form else None,
        temperature=body.get("temperature"),
        tokens=_tokens_read(body),
    )


def _check_order(messages: list[dict[str, Any]]) -> None:
    """System, user, then answers of the model, each call of a tool answered once and in order."""
    roles = [message["role"] for message in messages]
    if roles[:2] != ["system", "user"] or "system" in roles[1:]:
        raise Unexpected(f"a conversation does not begin with {roles[:2]}, {roles.count('system')}")
    waiting: list[str] = []
    for message in messages[1:]:
        if message["role"] == "tool":
            if not waiting or waiting.pop(0) != message["tool_call_id"]:
                raise Unexpected(f"an answer to no call, or out of order: {message}")
            continue
        if waiting:
            raise Unexpected(f"the calls {waiting} were never answered")
        for made in message.get("tool_calls") or ():
            if not isinstance(json.loads(made["function"]["arguments"]), dict):
                raise Unexpected(f"arguments that are no object: {made}")
            waiting.append(made["id"])
    if waiting or roles[-1] == "assistant":
        raise Unexpected(f"nothing is left to answer: {messages[-1]}")


def tokens_of(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False)) // CHARACTERS_PER_TOKEN


def _tokens_read(body: dict[str, Any]) -> int:
    """What a template makes of the request: each message has a short frame."""
    parts: list[object] = [body.get("tools") or ""]
    for message in body["messages"]:
        parts += ["", message.get("content") or ""]
        parts += [made["function"] for made in message.get("tool_calls") or ()]
    return sum(2 + tokens_of(part) for part in parts)

"""What happened in an attempt of an agent: lines for those who watch, and all of it in a file."""

from __future__ import annotations

import json
import time
from typing import IO

from agents.attempt import clean
from agents.contract import JSON, ProcessorContext

NAME = "transcript.jsonl"
MEDIA_TYPE = "application/x-ndjson"
SHOWN = 3000
"""Characters of one text in the live log; the file has it whole."""


class Transcript:
    """Events in order, numbered from 1, with the seconds since the attempt began.

    ``prompt`` (``role``, ``loop``, ``text``), ``turn`` (an answer of a model: ``role``, ``loop``,
    ``text``, ``calls`` of ``{"tool", "arguments"}``, ``input_tokens``, ``output_tokens``,
    ``seconds``), ``tool`` (``name``, ``arguments``, ``result``, ``ok``, ``blocked``, ``seconds``),
    ``check`` (``loop``, ``ok``, ``reason``, ``output``, ``seconds``) and ``verdict`` (``loop``,
    ``approve``, ``problems``).
    """

    def __init__(self, context: ProcessorContext) -> None:
        self._context = context
        self._file: IO[str] = context.artefact(NAME, MEDIA_TYPE).open("w", encoding="utf-8")
        self._begun = time.monotonic()
        self._count = 0
        self.loop = 0

    def add(self, event: str, **fields: object) -> None:
        """Keep one event, and tell those who watch."""
        self._count += 1
        head: JSON = {"n": self._count, "at": round(time.monotonic() - self._begun, 3)}
        if event != "tool":
            head["loop"] = self.loop
        whole = clean({**head, "event": event, **fields})
        self._file.write(json.dumps(whole, ensure_ascii=False, default=str) + "\n")
        self._file.flush()
        shown: JSON = {name: _shortened(value) for name, value in fields.items()}
        self._context.record(event, **head, **shown)

    def close(self) -> None:
        self._file.close()


def _shortened(value: object) -> object:
    match value:
        case str() if len(value) > SHOWN:
            return f"{value[:SHOWN]}… ({len(value) - SHOWN:,} characters more)"
        case dict():
            return {key: _shortened(item) for key, item in value.items()}
        case list() | tuple():
            return [_shortened(item) for item in value]
    return value

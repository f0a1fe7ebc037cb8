"""Reading a body: JSON objects only, and nothing a database or a JSON reader elsewhere refuses."""

from __future__ import annotations

import json
import math
import re
from typing import IO, Any, NoReturn

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

from batches.api.fields import json_type

NEWLINE = "\n"
DEEPEST = 100
"""Levels of a body; far fewer have a meaning, and beyond it Python's reader may give up."""


class ObjectParser(JSONParser):
    """One JSON object in UTF-8 (RFC 8259).

    Refused beyond that: NaN and Infinity, numbers too large for a float, a name given twice (each
    reader picks another of the two), and nesting that Python's reader cannot follow.
    """

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Any = None,
    ) -> dict[str, Any]:
        return object_in(stream.read(), "body")


def object_in(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object that ``data`` holds; ``what`` names it in the message.

    Raises:
        ParseError: it holds none, or one that ``ObjectParser`` refuses; says where.
    """
    found = value_in(data, what)
    if not isinstance(found, dict):
        raise ParseError(f"The {what} must be a JSON object, not {json_type(found)}.")
    return found


def value_in(data: bytes, what: str) -> Any:
    """The same of any JSON value."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        readable = wrong.object[: wrong.start].decode()
        raise _refused(what, "is not UTF-8", readable, len(readable)) from None
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as wrong:
        reason, at = f"is not JSON: {wrong.msg}", wrong.pos
    except (ValueError, RecursionError):
        reason, at = _fault(text)
    raise _refused(what, reason, text, at)


def _refused(what: str, reason: str, text: str, at: int) -> ParseError:
    place = f"column {at - text.rfind(NEWLINE, 0, at)}"
    # Of a single line, a number of its own would be taken for its number in the body.
    if what != "line":
        place = f"line {text.count(NEWLINE, 0, at) + 1} {place}"
    return ParseError(f"The {what} {reason}: {place}.")


# What follows raises without a reason: the decoder does not tell it where it is. ``_fault`` does.


def _refuse(_: str) -> NoReturn:
    raise ValueError


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique)
_PART = re.compile(
    r'(?P<text>"(?:[^"\\]++|\\.)*+")(?P<name>\s*+:)?+'
    r"|[{}\[\]]"
    r'|NaN|[^\s{}\[\],:"]{5,}+',  # shorter numbers are not too large
    re.DOTALL,
)


def _fault(text: str) -> tuple[str, int]:
    """What of ``text`` the decoder refused without saying where, and its index: the first such."""
    names: list[set[str]] = []  # of each open object; none of an array
    for part in _PART.finditer(text):
        reason = ""
        if part[0] in "{[":
            names.append(set())
            reason = "is nested too deeply" if len(names) > DEEPEST else ""
        elif part[0] in "}]":
            names.pop()
        elif part["name"]:
            reason = _taken_name(part["text"], names[-1])
        elif not part["text"]:
            reason = _no_number(part[0])
        if reason:
            return reason, part.start()
    return "is nested too deeply", len(text)


def _taken_name(written: str, taken: set[str]) -> str:
    name = json.loads(written) if "\\" in written else written[1:-1]
    if name in taken:
        return f"is not JSON: {name[:100]!r} is given twice in one object"
    taken.add(name)
    return ""


def _no_number(written: str) -> str:
    try:
        _DECODER.decode(written)
    except ValueError:
        wrong = "is too large" if written[-1].isdigit() else "is not a JSON number"
        return f"is not JSON: {written[:40]} {wrong}"
    return ""

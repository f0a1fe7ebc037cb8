"""Reading a body: JSON objects only, and nothing a database or a JSON reader elsewhere refuses."""

from __future__ import annotations

import json
import math
from typing import IO, Any, NoReturn

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

from batches.api.fields import json_type


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
        ParseError: it holds none, or one that ``ObjectParser`` refuses.
    """
    try:
        found = _DECODER.decode(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ParseError(f"The {what} is not UTF-8.") from None
    except RecursionError:
        raise ParseError(f"The {what} is nested too deeply.") from None
    except json.JSONDecodeError as wrong:
        # Of a single line, a number of its own would be taken for its number in the body.
        reason = f"{wrong.msg}: column {wrong.colno}" if what == "line" else wrong
        raise ParseError(f"The {what} is not JSON: {reason}.") from None
    except ValueError as wrong:
        raise ParseError(f"The {what} is not JSON: {wrong}.") from None
    if not isinstance(found, dict):
        raise ParseError(f"The {what} must be a JSON object, not {json_type(found)}.")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"{twice[:100]!r} is given twice in one object")
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique)

"""A submission as JSON Lines: its options on the first line, then an item on each.

A first line that is a request of OpenAI's batch files is an item as well: there are no options.

Read, validated and spooled line by line, so that memory does not grow with the body.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import BaseParser

from agents.contract import JSON
from batches.api.body import BLOCK
from batches.api.parsing import object_in
from batches.api.problems import BODY, field_errors
from batches.api.request_lines import is_request, item_of
from batches.api.submissions import (
    MOST_ERRORS,
    SERIALIZERS,
    AnySubmission,
    Items,
    option_fields,
    submission,
)
from batches.registry import Kind
from batches.submission import FieldError, InvalidSubmission, Item, Submission

LONGEST_LINE = 1024 * 1024
"""Bytes of one line, its end included."""
WHITESPACE = b" \t\r\n"


class Lines:
    """The lines of a stream of bytes, each read when it is asked for."""

    before_items = 1
    """How many lines there are before the first item."""

    def __init__(self, stream: io.RawIOBase) -> None:
        self._reader = io.BufferedReader(stream, BLOCK)
        self._first_item = b""

    def leave(self) -> None:
        """Let go of the stream, which stays open: it is the caller's."""
        self._reader.detach()

    def first(self) -> JSON:
        """The options on the first line, to be read before the others; empty where it is an item.

        Raises:
            InvalidSubmission: there is no such line.
        """
        line = self._next()
        try:
            options = _object(line)
        except ParseError as wrong:
            raise InvalidSubmission([FieldError(BODY, f"Line 1: {wrong.detail}")]) from wrong
        if not is_request(options):
            return options
        self._first_item, self.before_items = line, 0
        return {}

    def url(self) -> str:
        """Of the request on the first line, where it is one."""
        return str(_object(self._first_item).get("url", "")) if self._first_item else ""

    def rest(self) -> Iterator[bytes]:
        """The lines after it but for blank ones at the end; of a long one, more than is allowed."""
        if self._first_item:
            yield self._first_item
        blank = 0
        while line := self._next():
            if not line.strip(WHITESPACE):
                blank += 1
                continue
            for _ in range(blank):
                yield b""
            blank = 0
            yield line

    def _next(self) -> bytes:
        line = end = self._reader.readline(LONGEST_LINE + 1)
        while len(end) > LONGEST_LINE and not end.endswith(b"\n"):
            end = self._reader.readline(LONGEST_LINE + 1)
        return line


class LinesParser(BaseParser):
    """Gives ``Lines``: nothing of the body is read yet."""

    media_type = "application/x-ndjson"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None
    ) -> Any:
        return Lines(cast("io.RawIOBase", stream))


def lined_submission(kind: Kind, options: JSON, lines: Lines) -> Submission:
    """What the options and the lines that follow ask for; the items are read as they are taken.

    Raises:
        InvalidSubmission: the options are wrong; or, while items are taken, lines are.
    """
    serializer = SERIALIZERS.get(kind.name, AnySubmission)(data=options)
    shape = cast("Items", serializer.fields.pop(kind.items))
    try:
        serializer.is_valid(raise_exception=True)
    except ValidationError as wrong:
        raise InvalidSubmission(
            [
                FieldError(kind.items, "Line 1: The items come after it, one on each line.")
                if error.field == kind.items
                else error
                for error in field_errors(wrong.detail)
            ]
        ) from wrong

    def read(raw: JSON) -> Item:
        if is_request(raw):
            return item_of(raw, kind, shape, more)
        return shape.item(raw)

    more = option_fields(serializer)
    body = {**serializer.validated_data, kind.items: _items(lines, read, kind.items)}
    return submission(kind.name, kind.items, body)


def _items(lines: Lines, read: Callable[[JSON], Item], field: str) -> Iterator[Item]:
    """The items up to the first wrong line; from there on, only what else is wrong is looked for.

    Raises:
        InvalidSubmission: at the end, with all that was found.
    """
    errors: list[FieldError] = []
    for position, line in enumerate(lines.rest()):
        at = f"{field}[{position}]"
        try:
            item = read(_object(line))
        except ParseError as wrong:
            errors.append(FieldError(at, str(wrong.detail)))
        except ValidationError as wrong:
            errors.extend(field_errors(wrong.detail, at))
        else:
            if not errors:
                yield item
        if len(errors) >= MOST_ERRORS:
            break
    if errors:
        raise InvalidSubmission(errors)


def _object(line: bytes) -> JSON:
    if len(line) > LONGEST_LINE:
        raise ParseError(f"The line has more than {LONGEST_LINE:,} bytes.")
    if not line.strip(WHITESPACE):
        raise ParseError("The line is blank, which only lines at the end may be.")
    return object_in(line.rstrip(WHITESPACE), "line")


@contextmanager
def naming_lines(field: str, lines: Lines) -> Iterator[None]:
    """Say with each error which line of the body it is about; ``field`` is the list's."""
    try:
        yield
    except InvalidSubmission as refused:
        named = [_named(error, field, lines.before_items) for error in refused.errors]
        raise InvalidSubmission(named) from refused


def _named(error: FieldError, field: str, before: int) -> FieldError:
    if error.field in {field, BODY}:
        return error
    item = re.match(rf"{re.escape(field)}\[(\d+)\]", error.field)
    if item is None and not before:
        return error
    line = int(item[1]) + before + 1 if item else 1
    return FieldError(error.field, f"Line {line}: {error.message}")

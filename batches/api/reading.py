"""A body that did not come over HTTP: from a file of the command line, or from the admin's form."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rest_framework.exceptions import ValidationError

from agents.contract import JSON
from batches import registry
from batches.api.lines import Lines, lined_submission, naming_lines
from batches.api.problems import field_errors
from batches.api.request_lines import address
from batches.api.submissions import SERIALIZERS, AnySubmission, submission
from batches.registry import Kind
from batches.submission import FieldError, InvalidSubmission, Submission

BY_LINES = frozenset({".jsonl", ".ndjson"})
"""Endings of files that hold JSON Lines."""


def understood(body: JSON, kind_name: str | None) -> Submission:
    """What a body asks for, by the rules of the REST call plus ``kind``.

    Raises:
        InvalidSubmission: names every wrong field.
    """
    kind = kind_of(body, kind_name)
    serializer = SERIALIZERS.get(kind.name, AnySubmission)(data=body)
    try:
        serializer.is_valid(raise_exception=True)
    except ValidationError as refused:
        raise InvalidSubmission(list(field_errors(refused.detail))) from refused
    return submission(kind.name, kind.items, serializer.validated_data)


@contextmanager
def understood_by_lines(
    stream: io.RawIOBase, kind_name: str | None, more: JSON | None = None
) -> Iterator[Submission]:
    """What JSON Lines ask for; while the block runs, the items are read from the stream.

    ``more`` takes the place of options of the first line.

    Raises:
        InvalidSubmission: from the block too, where a line turns out to be wrong.
    """
    lines = Lines(stream)
    try:
        options = lines.first()
        if kind_name is None and (named := _kind_at(lines.url())):
            options["kind"] = named
        kind = kind_of(options, kind_name)
        with naming_lines(kind.items, lines):
            yield lined_submission(kind, {**options, **(more or {})}, lines)
    finally:
        lines.leave()


def _kind_at(url: str) -> str | None:
    """The kind whose requests go to an address."""
    named = (
        kind.name for kind in registry.kinds().values() if address(kind.endpoint) == url.rstrip("/")
    )
    return next(named, None)


def kind_of(body: dict[str, Any], kind_name: str | None) -> Kind:
    """The kind that the body names, which is taken out of it, or else the one that was chosen.

    Raises:
        InvalidSubmission: there is none, or another one.
    """
    name = body.pop("kind", kind_name)
    known = registry.offered()
    if not isinstance(name, str) or name not in known or kind_name not in {None, name}:
        words = f"Say one of {', '.join(sorted(known))}, here or with --kind."
        raise InvalidSubmission([FieldError("kind", words)])
    return known[name]

"""Types of command line arguments."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

SHORTEST_BEGINNING = 8


@dataclass(frozen=True, slots=True)
class Beginning:
    """The beginning of an id, or all of it: what lies within ``first`` and ``last`` has it."""

    text: str
    first: UUID
    last: UUID

    def __str__(self) -> str:
        return self.text


def beginning_of_id(text: str) -> Beginning:
    """At least the first 8 hexadecimal digits of an id, with or without its dashes."""
    digits = text.replace("-", "").lower()
    if not re.fullmatch(f"[0-9a-f]{{{SHORTEST_BEGINNING},32}}", digits):
        raise ArgumentTypeError(
            f"{text!r} is no id: give all of it, or at least its first {SHORTEST_BEGINNING} digits"
        )
    return Beginning(text, UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f")))


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """A parser of whole numbers within ``least`` and ``most``, both included."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse


def assignment(text: str) -> tuple[str, str]:
    """``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value

"""Arguments that may be left out although None is a value, and words for the history."""

from __future__ import annotations

from typing import Any, Final


class Unset:
    """No value was given; None is a value."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()


def given(**values: object) -> dict[str, Any]:
    """Those of the values that were given."""
    return {name: value for name, value in values.items() if not isinstance(value, Unset)}


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

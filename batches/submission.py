"""What a submission must be before a row of it is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from agents.contract import JSON


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong. ``field`` is a path into the body, such as ``targets[3].path``."""

    field: str
    message: str


class InvalidSubmission(ValueError):
    """Nothing was stored. Carries every error found, up to a limit."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors))
        self.errors = errors


class FieldErrors:
    """What is wrong with a row to be: the first thing of each field."""

    def __init__(self) -> None:
        self._found: list[FieldError] = []

    def add(self, field: str, message: str) -> None:
        if all(error.field != field for error in self._found):
            self._found.append(FieldError(field, message))

    def caught(self, field: str, check: Callable[[Any], Any], value: Any) -> Any:
        """What the check makes of the value; the value, where it raises ValueError."""
        try:
            return check(value)
        except ValueError as wrong:
            self.add(field, str(wrong))
            return value

    def raise_any(self) -> None:
        if self._found:
            raise InvalidSubmission(self._found)


@dataclass(frozen=True, slots=True)
class Item:
    """One task to be. ``payload`` holds the item's fields of the kind, not yet validated."""

    payload: JSON
    id: str | None = None
    """Unique in the batch; default its position."""
    priority: int | None = None
    timeout: int | None = None
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run every item. Its options take the place of the submission's."""

    name: str
    options: JSON = field(default_factory=dict)
    queue: str | None = None
    """None: the submission's."""


PLAIN = Variant("")
"""The only way to run the items of a submission that names none."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A batch to be. ``options`` holds the kind's fields that are common to its items."""

    kind: str
    items: Iterable[Item]
    options: JSON = field(default_factory=dict)
    name: str = ""
    backend: str = "auto"
    workspace: str | None = None
    priority: int | None = None
    queue: str | None = None
    parallel: int | None = None
    max_attempts: int = 3
    timeout: int | None = None
    run_at: datetime | None = None
    deadline: datetime | None = None
    after: tuple[UUID, ...] = ()
    labels: tuple[str, ...] = ()
    on_failure: str = "continue"
    variants: tuple[Variant, ...] = ()
    """Each item is run once for each of them; without any, once."""
    resume: UUID | None = None
    """A finished batch: what succeeded there, by custom id and variant, is not run again."""

    @property
    def ways(self) -> tuple[Variant, ...]:
        return self.variants or (PLAIN,)

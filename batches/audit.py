"""Who did what: one entry of Django's log for each verb, which the admin shows as a row's history.

It is written in the transaction of the change itself: there is neither without the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.db.models import Model

__all__ = ["ADDITION", "CHANGE", "DELETION", "Actor", "Via", "record", "values"]


class Via(StrEnum):
    """How somebody came in, as the history says it."""

    API = "over the API"
    ADMIN = "in the admin"
    COMMAND = "on the command line"


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever asks, and how they came in."""

    user: User
    via: Via


def record(by: Actor | None, row: Model, words: str, flag: int = CHANGE) -> None:
    """One entry in the history of ``row``, such as ``Paused, over the API.``.

    None is the console itself, measuring or testing: it has no history to write. A row that is
    removed must still have its key.
    """
    if by is not None:
        LogEntry.objects.log_actions(
            user_id=by.user.pk,
            queryset=[row],
            action_flag=flag,
            change_message=f"{words}, {by.via}.",
            single_object=True,
        )


def values(changes: Mapping[str, object]) -> str:
    """Such as ``priority 9, parallel none``."""
    return ", ".join(
        f"{name.replace('_', ' ')} {'none' if value is None else value}"
        for name, value in changes.items()
    )

"""What a tool answers when it does not do what the model asked."""

from __future__ import annotations


class ToolRefused(Exception):
    """Not done; the text is for the model and says what would be right."""


class Blocked(ToolRefused):
    """Stopped by the guardrail; the attempt counts these."""


class LimitExceeded(Exception):
    """A limit of the attempt is used up, which ends it. ``limit`` is the limit's name."""

    def __init__(self, limit: str, reason: str) -> None:
        super().__init__(reason)
        self.limit = limit

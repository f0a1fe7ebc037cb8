"""What tasks need, as conditions on the task ``t``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from batches.queue import sql


def nothing_away() -> str:
    """A condition that the task needs no resource that is away as the statement runs."""
    needed = (
        "jsonb_exists(t.needs, r.name)"
        if sql.is_postgres()
        else "EXISTS (SELECT 1 FROM json_each(t.needs) n WHERE n.value = r.name)"
    )
    return (
        f"NOT EXISTS (SELECT 1 FROM batches_resource r WHERE r.away_since IS NOT NULL AND {needed})"
    )


def without(away: Collection[str]) -> tuple[str, list[Any]]:
    """A condition, with its AND, that leaves out what needs something of these; its parameters."""
    if not away:
        return "", []
    if sql.is_postgres():
        return "AND NOT jsonb_exists_any(t.needs, %s)", [list(away)]
    marks = ", ".join(["%s"] * len(away))
    return (
        f"AND NOT EXISTS (SELECT 1 FROM json_each(t.needs) n WHERE n.value IN ({marks}))",
        list(away),
    )

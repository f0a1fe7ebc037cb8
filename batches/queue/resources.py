"""Resources that are away: tasks that need one wait outside the claim index until a probe."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from batches.models import Resource
from batches.queue import sql

PROBE_FIRST, PROBE_CAP = 2.0, 30.0
"""Seconds between probes: doubling from the first to the cap."""
CHUNK = 5000
WAITING = "t.state = 'queued' AND NOT (t.waiting_for = '')"
"""As the condition of the index is written: SQLite does not see that ``<>`` says the same."""


def away() -> frozenset[str]:
    """Names of the resources that are away now."""
    return frozenset(
        Resource.objects.filter(away_since__isnull=False).values_list("name", flat=True)
    )


def mark_away(name: str, kind: str, reason: str) -> None:
    """Note that a resource is away, since when and why; the first note starts the probes."""
    with transaction.atomic():
        Resource.objects.get_or_create(pk=name, defaults={"kind": kind})
        changed = sql.change(
            f"UPDATE batches_resource SET away_since = {sql.now()}, kind = %s, reason = %s, "
            f"probes = 0, probe_after = {sql.later('%s')} WHERE name = %s AND away_since IS NULL",
            [kind, reason, PROBE_FIRST, name],
        )
        if not changed:
            Resource.objects.filter(pk=name).update(reason=reason)


def park(names: Iterable[str], batch: UUID | None = None) -> int:
    """Move waiting tasks that need one of these out of the claim index; returns how many.

    A claim leaves such tasks out anyway, but steps over each of them, every time. ``batch`` keeps
    to that batch; without it every waiting task is looked at.
    """
    return sum(_park(name, batch) for name in names)


def _park(name: str, batch: UUID | None) -> int:
    condition = (
        "jsonb_exists(t.needs, %s)"
        if sql.is_postgres()
        else "EXISTS (SELECT 1 FROM json_each(t.needs) n WHERE n.value = %s)"
    )
    parameters = [name, name, name]
    if batch is not None:
        condition += " AND t.batch_id = %s"
        parameters.insert(2, sql.one_id(batch))
    needy = (
        f"SELECT t.id FROM {sql.TASK} t WHERE {sql.READY.format(t='t')} AND {condition} "
        "AND EXISTS (SELECT 1 FROM batches_resource r "
        "WHERE r.name = %s AND r.away_since IS NOT NULL) "
        f"LIMIT {CHUNK}{sql.locked('FOR UPDATE OF t SKIP LOCKED')}"
    )
    total = 0
    while True:
        changed = sql.change(
            f"UPDATE {sql.TASK} SET waiting_for = %s "
            f"WHERE {sql.picked(needy)} AND state = 'queued'",
            parameters,
        )
        total += changed
        if changed < CHUNK:
            return total


def due_for_probe(kinds: Iterable[str], most: int) -> list[tuple[str, str]]:
    """Take over probes of these kinds that are due: ``(resource, kind)``.

    No two callers get the same one.
    """
    taken = []
    due = Resource.objects.filter(away_since__isnull=False, probe_after__lte=Now())
    for resource in due.filter(kind__in=list(kinds)).order_by("probe_after")[:most]:
        pause = min(PROBE_CAP, PROBE_FIRST * 2 ** min(resource.probes + 1, 16))
        changed = sql.change(
            f"UPDATE batches_resource SET probes = probes + 1, probe_after = {sql.later('%s')} "
            "WHERE name = %s AND away_since IS NOT NULL AND probes = %s",
            [pause, resource.pk, resource.probes],
        )
        if changed:
            taken.append((resource.pk, resource.kind))
    return taken


def mark_back(name: str) -> int:
    """A probe found the resource: let what waits for it run; returns how many tasks."""
    Resource.objects.filter(pk=name).update(away_since=None, reason="", probes=0, probe_after=None)
    return unpark(name)


def unpark(name: str) -> int:
    """Let the tasks that wait for a resource run, in chunks, unless it went away again."""
    parked = (
        f"SELECT t.id FROM {sql.TASK} t WHERE {WAITING} AND t.waiting_for = %s "
        "AND NOT EXISTS (SELECT 1 FROM batches_resource r "
        "WHERE r.name = %s AND r.away_since IS NOT NULL) "
        f"LIMIT {CHUNK}{sql.locked('FOR UPDATE SKIP LOCKED')}"
    )
    total = 0
    while True:
        changed = sql.change(
            f"UPDATE {sql.TASK} SET waiting_for = '' "
            f"WHERE {sql.picked(parked)} AND state = 'queued'",
            [name, name],
        )
        total += changed
        if changed < CHUNK:
            return total


def forgotten() -> list[str]:
    """Resources that tasks wait for although they are back: whoever found that died, or tasks were
    parked at that moment.

    One index probe for each resource that anything waits for (a loose index scan).
    """
    first = f"SELECT t.waiting_for FROM {sql.TASK} t WHERE {WAITING}"
    found = sql.rows(
        f"""
        WITH RECURSIVE waited(name) AS (
            SELECT ({first} ORDER BY t.waiting_for LIMIT 1)
            UNION ALL
            SELECT ({first} AND t.waiting_for > waited.name ORDER BY t.waiting_for LIMIT 1)
            FROM waited WHERE waited.name IS NOT NULL
        )
        SELECT waited.name FROM waited
        LEFT JOIN batches_resource r ON r.name = waited.name AND r.away_since IS NOT NULL
        WHERE waited.name IS NOT NULL AND r.name IS NULL
        """
    )
    return [name for (name,) in found]

"""Taking the next tasks: leases on the first rows of the lanes that may run now."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from batches.queue import model_limits, sql
from batches.queue.limits import places_left, record_starts
from batches.queue.needs import without
from batches.queue.walk import Claimant, Lane, Room, spans

MOST_STARTING = 64
"""Most batches one claim locks at once to start them, unless it wants more tasks."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to settle one attempt of a task."""

    task_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A lease and what is needed to run it. ``payload`` is JSON text, as stored."""

    lease: Lease
    batch_id: UUID
    kind: str
    payload: str
    timeout: float
    """Seconds: the task's own, or what is left until the batch's deadline."""
    workspace_id: UUID | None
    limited: bool
    """Others may be waiting for this one to end, because a limit holds them back."""
    models: frozenset[str] = frozenset()
    """Models with a limit of which it takes a place."""


def claim(claimant: Claimant, room: Room) -> list[Claimed]:
    """Lease the first tasks that may run now, in order: priority, age of the batch, position.

    Repeats while there is room and another lane. May be called any number of times, by any number
    of processes at once.
    """
    claimed: list[Claimed] = []
    full: set[str] = set()
    for span in spans(claimant, room, full):
        wanted = room.left(span.lanes[0].kind)
        if wanted <= 0:
            continue
        taken = (
            _claim_limited(claimant, span.lanes[0], wanted, full)
            if span.lanes[0].limited
            else _claim_span(claimant, span.lanes, wanted)
        )
        room.take(span.lanes[0].kind, len(taken))
        claimed += taken
    return claimed


def _claim_limited(claimant: Claimant, lane: Lane, wanted: int, full: set[str]) -> list[Claimed]:
    """Claim under a limit: lock what carries the limit, then count, then claim.

    Two claimers that count before they lock both find the last place free. The first look is only
    there to spare the locks: a limit that is reached is found so by every claim.
    """
    if places_left(lane, wanted, full) <= 0:
        return []
    full |= model_limits.full(model_limits.places_left(lane.models))
    if lane.wants_only(full):
        return []
    lock = sql.locked("FOR NO KEY UPDATE")
    with transaction.atomic():
        free = places_left(lane, wanted, full, lock=lock)
        taken = _claim_modelled(claimant, lane, free, full, lock) if free > 0 else []
        if taken and lane.rated:
            record_starts(lane.queue, len(taken))
    return taken


def _claim_modelled(
    claimant: Claimant, lane: Lane, wanted: int, full: set[str], lock: str
) -> list[Claimed]:
    """Claim what the limits of models allow too; notes the models that allow nothing more.

    Never more at once than the fewest places that a model has left: each task may need that one.
    """
    left = model_limits.places_left(lane.models, lock=lock)
    claimed: list[Claimed] = []
    while True:
        full |= model_limits.full(left)
        most = min([wanted - len(claimed), *(places for places in left.values() if places > 0)])
        if most <= 0 or lane.wants_only(full):
            return claimed
        taken_models = frozenset(left) & full
        some = _claim_span(replace(claimant, away=claimant.away | taken_models), [lane], most)
        if not some:
            return claimed
        claimed += some
        for name in itertools.chain.from_iterable(item.models for item in some):
            if name in left:
                left[name] -= 1


def _claim_span(claimant: Claimant, lanes: list[Lane], wanted: int) -> list[Claimed]:
    if all(lane.started for lane in lanes):
        return _claim_rows(claimant, lanes, wanted)
    # Each lane had a ready row a moment ago, so that as many lanes as tasks are nearly always
    # enough. More are looked at where others took them, or what they need is away.
    claimed: list[Claimed] = []
    step = wanted
    while lanes and len(claimed) < wanted:
        claimed += _claim_starting(claimant, lanes[:step], wanted - len(claimed))
        lanes, step = lanes[step:], min(step * 2, max(wanted, MOST_STARTING))
    return claimed


def _claim_starting(claimant: Claimant, lanes: list[Lane], wanted: int) -> list[Claimed]:
    """Claim from lanes of which some have not started: with its first task a batch starts.

    Nobody must see the one without the other. The batch is locked first, as by everyone who
    writes a batch and then its tasks.
    """
    claimed: list[Claimed] = []
    with transaction.atomic():
        # One that another has locked is left to its claimer.
        new = {lane.batch_id for lane in lanes if not lane.started}
        starting = lock_starting(new, "FOR NO KEY UPDATE SKIP LOCKED")
        # Neighbours only: one statement over a gap would step over every row in it.
        for mine, run in itertools.groupby(
            lanes, key=lambda lane: lane.started or lane.batch_id in starting
        ):
            if mine and len(claimed) < wanted:
                claimed += _claim_rows(claimant, list(run), wanted - len(claimed))
        mark_started(starting & {item.batch_id for item in claimed})
    return claimed


def lock_starting(batches: set[UUID], lock: str) -> set[UUID]:
    """Lock batches that are to start, in the order of their ids; returns those that still may."""
    found = sql.rows(
        f"SELECT b.id FROM {sql.BATCH} b WHERE {sql.in_ids('b.id')} AND b.state = 'open' "
        "AND b.paused_at IS NULL AND b.cancel_requested_at IS NULL "
        f"ORDER BY b.id{sql.locked(lock)}",
        [sql.ids(batches)],
    )
    return {sql.as_uuid(row[0]) for row in found}


def _claim_rows(claimant: Claimant, lanes: list[Lane], wanted: int) -> list[Claimed]:
    needs, away = without(claimant.away)
    picked = f"""
            SELECT t.id FROM {sql.TASK} t
            WHERE {sql.READY.format(t="t")} AND t.lane BETWEEN %s AND %s
              AND {sql.in_ids(sql.unindexed("t.batch_id"))} {needs}
            ORDER BY t.lane, t.position LIMIT %s{sql.locked("FOR UPDATE SKIP LOCKED")}"""
    batches = sql.ids(lane.batch_id for lane in lanes)
    span = [lanes[0].number, lanes[-1].number, batches]
    return take(claimant, lanes, picked, [*span, *away, wanted])


def written() -> str:
    """What a claim writes; two parameters, the worker and the seconds of the lease."""
    return (
        "state = 'running', attempt = attempt + 1, worker = %s, dispatched_at = NULL, "
        f"started_at = {sql.now()}, leased_until = {sql.later('%s')}, effect_at = NULL"
    )


def take(
    claimant: Claimant, lanes: Iterable[Lane], picked: str, parameters: Sequence[Any]
) -> list[Claimed]:
    """Lease the rows that a select picks; all are of these lanes."""
    by_batch = {lane.batch_id: lane for lane in lanes}
    found = sql.rows(
        f"""
        WITH picked AS {"MATERIALIZED" if sql.is_postgres() else ""} ({picked}
        )
        UPDATE {sql.TASK} SET {written()}
        WHERE id IN (SELECT id FROM picked)
        RETURNING id, attempt, batch_id, kind, payload, timeout, lane, position, needs
        """,
        [*parameters, claimant.worker, settings.LEASE_SECONDS],
    )
    found.sort(key=lambda row: (row[6], row[7]))
    return [_claimed(row, by_batch[sql.as_uuid(row[2])]) for row in found]


def _claimed(row: tuple[Any, ...], lane: Lane) -> Claimed:
    timeout = float(row[5])
    return Claimed(
        lease=Lease(sql.as_uuid(row[0]), row[1]),
        batch_id=lane.batch_id,
        kind=row[3],
        payload=row[4],
        timeout=timeout if lane.seconds_left is None else min(timeout, lane.seconds_left),
        workspace_id=lane.workspace_id,
        limited=lane.limited,
        models=lane.models & frozenset(json.loads(row[8])) if lane.demands else frozenset(),
    )


def mark_started(batches: set[UUID]) -> None:
    """Note when the first task of each was claimed; one that has started keeps its time."""
    if batches:
        sql.change(
            f"UPDATE {sql.BATCH} SET started_at = {sql.now()} "
            f"WHERE {sql.in_ids('id')} AND started_at IS NULL",
            [sql.ids(batches)],
        )

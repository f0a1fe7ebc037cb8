"""Taking the next tasks: leases on the first rows of the lanes that may run now."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from batches.queue import model_limits, sql
from batches.queue.walk import Claimant, Lane, Room, lane_of, spans

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


class NotHere(Exception):
    """The task may run, but this machine cannot open its workspace."""


def claim_by_id(claimant: Claimant, task: UUID) -> Claimed | None:
    """Lease the task that a message named, if by every rule of ``claim`` it may run now.

    None: it may not, or not any more, or it runs already. The message may have been late, or
    doubled.

    Raises:
        NotHere: it may run, but not on this machine.
    """
    if (claimed := _claim_plain(claimant, task)) is not None:
        return claimed
    lane = lane_of(claimant, task)
    if lane is None or not lane.open:
        return None
    if not claimant.opens(lane.workspace_id):
        raise NotHere(f"the workspace {lane.workspace_id} cannot be opened here")
    lock = sql.locked("FOR NO KEY UPDATE")
    with transaction.atomic():
        if lane.limited and places_left(lane, 1, set(), lock=lock) <= 0:
            return None
        needs, full = without(model_limits.full(model_limits.places_left(lane.models, lock=lock)))
        if not (lane.started or _lock_starting({lane.batch_id}, "FOR NO KEY UPDATE")):
            return None
        picked = (
            f"SELECT t.id FROM {sql.TASK} t WHERE t.id = %s AND {sql.MAY_RUN.format(t='t')} "
            f"AND NOT EXISTS (SELECT 1 FROM batches_resource r WHERE r.away_since IS NOT NULL "
            f"AND {_needed()}) {needs}{sql.locked('FOR UPDATE OF t')}"
        )
        taken = _take(claimant, [lane], picked, [sql.one_id(task), *full])
        if taken and lane.rated:
            _record_starts(lane.queue, 1)
        if taken and not lane.started:
            _mark_started({lane.batch_id})
    return taken[0] if taken else None


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
            _record_starts(lane.queue, len(taken))
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


@dataclass(frozen=True, slots=True)
class Ahead:
    """Tasks that wait but are spoken for, and so count as if they ran."""

    in_queue: int = 0
    in_batch: int = 0


NOTHING_AHEAD = Ahead()


def places_left(
    lane: Lane, wanted: int, full: set[str], *, lock: str = "", ahead: Ahead = NOTHING_AHEAD
) -> int:
    """How many of the wanted tasks the limits allow; notes a queue that allows none."""
    queues = sql.rows(
        f"SELECT concurrency_limit, rate_limit, paused_at FROM {sql.QUEUE} WHERE name = %s{lock}",
        [lane.queue],
    )
    batches = sql.rows(
        f"SELECT parallel FROM {sql.BATCH} WHERE id = %s AND state = 'open' "
        f"AND paused_at IS NULL AND cancel_requested_at IS NULL{lock}",
        [sql.one_id(lane.batch_id)],
    )
    [(queue_limit, rate_limit, queue_paused)] = queues
    by_limits = [left - ahead.in_queue for left in _left_in_queue(lane, queue_limit, rate_limit)]
    in_queue = 0 if queue_paused else min([wanted, *by_limits])
    if in_queue <= 0:
        full.add(lane.queue)
        return 0
    if not batches:
        return 0
    [(parallel,)] = batches
    if parallel is None:
        return in_queue
    [(used,)] = sql.rows(
        f"SELECT count(*) FROM {sql.TASK} t WHERE t.batch_id = %s AND t.state = 'running'",
        [sql.one_id(lane.batch_id)],
    )
    return min(in_queue, int(parallel) - int(used) - ahead.in_batch)


def _left_in_queue(lane: Lane, queue_limit: int | None, rate_limit: int | None) -> Iterator[int]:
    if queue_limit is not None:
        [(used,)] = sql.rows(
            f"SELECT count(*) FROM {sql.TASK} t JOIN {sql.SHARE} s ON {sql.SHARE_OF_TASK} "
            "WHERE t.state = 'running' AND s.queue_id = %s",
            [lane.queue],
        )
        yield queue_limit - used
    if rate_limit is not None:
        [(used,)] = sql.rows(
            f"SELECT count(*) FROM batches_start WHERE queue_id = %s AND at > {sql.later('-60')}",
            [lane.queue],
        )
        yield rate_limit - used


def _record_starts(queue: str, number: int) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO batches_start (queue_id, at) VALUES (%s, {sql.now()})",
            [(queue,)] * number,
        )


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
        starting = _lock_starting(new, "FOR NO KEY UPDATE SKIP LOCKED")
        # Neighbours only: one statement over a gap would step over every row in it.
        for mine, run in itertools.groupby(
            lanes, key=lambda lane: lane.started or lane.batch_id in starting
        ):
            if mine and len(claimed) < wanted:
                claimed += _claim_rows(claimant, list(run), wanted - len(claimed))
        _mark_started(starting & {item.batch_id for item in claimed})
    return claimed


def _lock_starting(batches: set[UUID], lock: str) -> set[UUID]:
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
    return _take(claimant, lanes, picked, [*span, *away, wanted])


def _taken() -> str:
    """What a claim writes; two parameters, the worker and the seconds of the lease."""
    return (
        "state = 'running', attempt = attempt + 1, worker = %s, dispatched_at = NULL, "
        f"started_at = {sql.now()}, leased_until = {sql.later('%s')}, effect_at = NULL"
    )


def _take(
    claimant: Claimant, lanes: Iterable[Lane], picked: str, parameters: Sequence[Any]
) -> list[Claimed]:
    """Lease the rows that a select picks; all are of these lanes."""
    by_batch = {lane.batch_id: lane for lane in lanes}
    found = sql.rows(
        f"""
        WITH picked AS {"MATERIALIZED" if sql.is_postgres() else ""} ({picked}
        )
        UPDATE {sql.TASK} SET {_taken()}
        WHERE id IN (SELECT id FROM picked)
        RETURNING id, attempt, batch_id, kind, payload, timeout, lane, position, needs
        """,
        [*parameters, claimant.worker, settings.LEASE_SECONDS],
    )
    found.sort(key=lambda row: (row[6], row[7]))
    return [_claimed(row, by_batch[sql.as_uuid(row[2])]) for row in found]


def _claim_plain(claimant: Claimant, task: UUID) -> Claimed | None:
    """In one statement, where the batch has started and no limit holds it: the usual case.

    None says nothing: it may be another case. SQLite cannot return what it joined.
    """
    if not sql.is_postgres():
        return None
    here = "b.workspace_id IS NULL"
    parameters: list[Any] = []
    if claimant.workspaces:
        here = f"({here} OR {sql.in_ids('b.workspace_id')})"
        parameters.append(sql.ids(claimant.workspaces))
    found = sql.prepared(
        f"""
        UPDATE {sql.TASK} AS t SET {_taken()}
        FROM {sql.BATCH} b, {sql.SHARE} s JOIN {sql.QUEUE} q ON q.name = s.queue_id
        WHERE t.id = %s AND {sql.MAY_RUN.format(t="t")} AND b.id = t.batch_id
          AND {sql.SHARE_OF_TASK}
          AND b.backend = %s AND {sql.OPEN} AND b.started_at IS NOT NULL AND {here}
          AND b.parallel IS NULL AND q.concurrency_limit IS NULL AND q.rate_limit IS NULL
          AND (b.deadline IS NULL OR b.deadline > {sql.now()})
          AND NOT EXISTS (SELECT 1 FROM batches_resource r WHERE r.away_since IS NOT NULL
                          AND {_needed()})
          AND NOT EXISTS (SELECT 1 FROM {model_limits.TABLE} m WHERE m.parallel IS NOT NULL
                          AND jsonb_exists(t.needs, {model_limits.RESOURCE}))
        RETURNING t.attempt, t.batch_id, t.kind, t.payload, t.timeout, {sql.seconds_left()},
                  b.workspace_id
        """,
        [
            claimant.worker,
            settings.LEASE_SECONDS,
            sql.one_id(task),
            claimant.backend,
            *parameters,
        ],
    )
    if not found:
        return None
    [(attempt, batch, kind, payload, timeout, left, workspace)] = found
    return Claimed(
        lease=Lease(task, attempt),
        batch_id=batch,
        kind=kind,
        payload=payload,
        timeout=float(timeout) if left is None else min(float(timeout), float(left)),
        workspace_id=workspace,
        limited=False,
    )


def _needed() -> str:
    """The task ``t`` needs the resource ``r``."""
    if sql.is_postgres():
        return "jsonb_exists(t.needs, r.name)"
    return "EXISTS (SELECT 1 FROM json_each(t.needs) n WHERE n.value = r.name)"


def without(away: Collection[str]) -> tuple[str, list[Any]]:
    """A condition that leaves out tasks which need something that is away, and its parameters."""
    if not away:
        return "", []
    if sql.is_postgres():
        return "AND NOT jsonb_exists_any(t.needs, %s)", [list(away)]
    marks = ", ".join(["%s"] * len(away))
    return (
        f"AND NOT EXISTS (SELECT 1 FROM json_each(t.needs) n WHERE n.value IN ({marks}))",
        list(away),
    )


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


def _mark_started(batches: set[UUID]) -> None:
    if batches:
        sql.change(
            f"UPDATE {sql.BATCH} SET started_at = {sql.now()} "
            f"WHERE {sql.in_ids('id')} AND started_at IS NULL",
            [sql.ids(batches)],
        )

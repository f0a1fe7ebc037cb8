"""Which lanes may be claimed from now, in claim order: one index probe each to find them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from batches.lanes import priority_of
from batches.queue import model_limits, sql

WINDOWS = (8, 64, 512)
"""Lanes looked at in the first, second and every further statement of one claim."""


class Room(Protocol):
    """How many tasks the claimant can take."""

    def left(self, kind: str) -> int: ...

    def take(self, kind: str, number: int) -> None: ...

    def full(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims, and from where. ``queues`` empty: from all."""

    worker: str
    backend: str
    queues: frozenset[str] = frozenset()
    workspaces: frozenset[UUID] = frozenset()
    away: frozenset[str] = frozenset()
    """Resources known to be away: tasks that need one are left where they are."""

    def opens(self, workspace: UUID | None) -> bool:
        return workspace is None or workspace in self.workspaces


@dataclass(frozen=True, slots=True)
class Lane:
    number: int
    batch_id: UUID
    kind: str
    workspace_id: UUID | None
    queue: str
    seconds_left: float | None
    started: bool
    open: bool
    limited: bool
    rated: bool
    """Its queue has a rate limit: starts are recorded."""
    whole: bool = True
    """All tasks of its batch are in this queue."""
    demands: tuple[frozenset[str], ...] = ()
    """Each set of models with a limit that a task of its batch needs; empty: none has a limit."""

    @property
    def priority(self) -> int:
        return priority_of(self.number)

    @property
    def joins(self) -> bool:
        """May it be claimed from together with others? Of a batch in several queues another lane,
        which may not run here, could lie between."""
        return self.whole and not self.limited

    @property
    def models(self) -> frozenset[str]:
        """All models with a limit that its tasks need."""
        return frozenset().union(*self.demands)

    def wants_only(self, full: Collection[str]) -> bool:
        """Does each of its tasks need a model that is among these?"""
        return bool(self.demands) and not any(demand.isdisjoint(full) for demand in self.demands)


@dataclass(slots=True)
class Span:
    """Neighbouring lanes that one statement can claim from."""

    lanes: list[Lane] = field(default_factory=list)

    def takes(self, lane: Lane) -> bool:
        if not self.lanes:
            return True
        last = self.lanes[-1]
        return lane.kind == last.kind and lane.joins and last.joins


def spans(claimant: Claimant, room: Room, full: Collection[str]) -> Iterator[Span]:
    """Lanes in claim order, blocked ones left out, neighbours of one kind joined.

    ``full`` are queues and models whose limit is reached; the caller adds to them while it claims.

    A lane that is left out ends the span, so that a span's range of lane numbers holds no other
    lane than its own, but for one submitted meanwhile: the claim checks the batch as well.
    """
    after, window = -1, 0
    while True:
        width = WINDOWS[min(window, len(WINDOWS) - 1)]
        lanes = _lanes(claimant, after, width)
        span = Span()
        for lane in lanes:
            if not _may_run(claimant, room, full, lane) or not span.takes(lane):
                if span.lanes:
                    yield span
                span = Span()
            if _may_run(claimant, room, full, lane):
                span.lanes.append(lane)
        if span.lanes:
            yield span
        if len(lanes) < width or room.full():
            return
        after, window = lanes[-1].number, window + 1


def in_order(claimant: Claimant) -> Iterator[Lane]:
    """Every lane with a ready row, in claim order, those that are blocked as well."""
    after, window = -1, 0
    while True:
        width = WINDOWS[min(window, len(WINDOWS) - 1)]
        lanes = _lanes(claimant, after, width)
        yield from lanes
        if len(lanes) < width:
            return
        after, window = lanes[-1].number, window + 1


def _may_run(claimant: Claimant, room: Room, full: Collection[str], lane: Lane) -> bool:
    return (
        lane.open
        and lane.queue not in full
        and not lane.wants_only(full)
        and (not claimant.queues or lane.queue in claimant.queues)
        and claimant.opens(lane.workspace_id)
        and room.left(lane.kind) > 0
    )


def lane_of(claimant: Claimant, task: UUID) -> Lane | None:
    """The lane of one task; None when there is no such task."""
    found = sql.rows(
        f"SELECT t.lane, {_batch_columns()} FROM {sql.TASK} t "
        f"JOIN {sql.SHARE} s ON {sql.SHARE_OF_TASK} "
        f"JOIN {sql.BATCH} b ON b.id = t.batch_id JOIN {sql.QUEUE} q ON q.name = s.queue_id "
        "WHERE t.id = %s",
        [claimant.backend, sql.one_id(task)],
    )
    return _lane(found[0]) if found else None


def _lanes(claimant: Claimant, after: int, width: int) -> list[Lane]:
    """The next lanes with a ready row: one index probe each, however many rows a lane holds.

    A loose index scan as a recursive query: see the PostgreSQL wiki, "Loose indexscan".
    """
    # Not min(): where PostgreSQL thinks that few rows are ready, it aggregates all of them.
    first = f"SELECT t.lane FROM {sql.TASK} t WHERE {sql.READY.format(t='t')}"
    once = "ORDER BY t.lane, t.position LIMIT 1"
    found = sql.prepared(
        f"""
        WITH RECURSIVE walk(lane, n) AS (
            SELECT ({first} AND t.lane > %s {once}), 1
            UNION ALL
            SELECT ({first} AND t.lane > walk.lane {once}), walk.n + 1
            FROM walk WHERE walk.lane IS NOT NULL AND walk.n < %s
        )
        SELECT walk.lane, {_batch_columns()}
        FROM walk
        JOIN {sql.SHARE} s ON s.number = walk.lane {sql.NUMBER_OF_LANE}
        JOIN {sql.BATCH} b ON b.id = s.batch_id
        JOIN {sql.QUEUE} q ON q.name = s.queue_id
        ORDER BY walk.lane
        """,
        [after, width, claimant.backend],
    )
    return [_lane(row) for row in found]


def _batch_columns() -> str:
    """What a lane says of its batch ``b``, the batch's share ``s`` and the queue ``q`` of that; one
    parameter, the backend."""
    return f"""b.id, b.kind, b.workspace_id, s.queue_id, {sql.seconds_left()},
               b.started_at IS NOT NULL,
               b.backend = %s AND {sql.OPEN},
               b.parallel IS NOT NULL OR q.concurrency_limit IS NOT NULL
               OR q.rate_limit IS NOT NULL,
               q.rate_limit IS NOT NULL, s.whole, {model_limits.limited_demands("b")}"""


def _lane(row: Sequence[Any]) -> Lane:
    demands = model_limits.read(row[11])
    return Lane(
        number=row[0],
        batch_id=sql.as_uuid(row[1]),
        kind=row[2],
        workspace_id=row[3] and sql.as_uuid(row[3]),
        queue=row[4],
        seconds_left=None if row[5] is None else float(row[5]),
        started=bool(row[6]),
        open=bool(row[7]) and (row[5] is None or row[5] > 0),
        limited=bool(row[8]) or bool(demands),
        rated=bool(row[9]),
        whole=bool(row[10]),
        demands=demands,
    )

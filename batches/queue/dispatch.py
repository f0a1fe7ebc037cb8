"""Which waiting tasks are told to Celery workers next: a window of messages for each queue.

A message only says "look at this row". The rows say what may run and in which order, so few
messages are in the broker at any time: what is not there yet can still be re-ordered, paused or
cancelled, and what the broker loses is told of again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction

from batches.messages import Message
from batches.queue import model_limits, sql
from batches.queue.limits import Ahead, places_left
from batches.queue.needs import without
from batches.queue.walk import Claimant, Lane, in_order
from batches.queue.windows import Out, Outstanding, Reader, readers
from batches.states import BackendName

PATIENCE, LONGEST_PATIENCE = 30.0, 900.0
"""Seconds until a message that nobody came with is sent again, doubling from the first on."""
IDLE_PATIENCE = 8.0
"""The same where a worker of the queue has nothing to do: it would have come long ago."""


def tell(away: frozenset[str], live: Sequence[Reader], *, room: bool = False) -> list[Message]:
    """Mark the tasks whose turn has come as dispatched; to be published once that is committed.

    ``room``: there is some, as far as the caller knows.

    In claim order over all queues, and nothing less urgent to workers for which something more
    urgent is out: a broker gives no order across queues that could be relied on, and what is out
    cannot be overtaken.
    """
    claimant = Claimant("", BackendName.CELERY, away=away)
    if not (room or _has_room(claimant, live)):
        return []
    told: list[Message] = []
    with transaction.atomic():
        _take_turns()
        out = _outstanding(live)
        limited: set[str] = set()
        for lane in _whose_turn(claimant, live, out):
            told += _tell_lane(claimant, lane, out, _room(lane, out, limited))
    return told


def _has_room(claimant: Claimant, live: Sequence[Reader]) -> bool:
    """Without a transaction, which on SQLite would keep writers waiting."""
    out = _outstanding(live)
    limited: set[str] = set()
    return any(_room(lane, out, limited) > 0 for lane in _whose_turn(claimant, live, out))


def _whose_turn(claimant: Claimant, live: Sequence[Reader], out: Outstanding) -> Iterator[Lane]:
    """The lanes that messages may be sent of now, in claim order.

    ``out`` is looked at again after each: the caller adds to it.
    """
    for lane in in_order(claimant):
        if lane.open and _can_be_opened(lane, live) and out.wants(lane) and out.room(lane.queue):
            yield lane


def _take_turns() -> None:
    """Two dispatchers at once would both find the window empty.

    The marks need not be on disk: a server that loses them has tasks told of once more.
    """
    if sql.is_postgres():
        sql.prepared(
            "SELECT name, set_config('synchronous_commit', 'off', true) "
            f"FROM {sql.QUEUE} ORDER BY name FOR NO KEY UPDATE"
        )


def _outstanding(live: Sequence[Reader]) -> Outstanding:
    found = sql.prepared(
        f"SELECT s.queue_id, t.batch_id, t.priority, count(*), min({_age()}) FROM {sql.TASK} t "
        f"JOIN {sql.SHARE} s ON {sql.SHARE_OF_TASK} "
        f"WHERE {DISPATCHED} AND t.dispatched_at >= {FIRST} "
        "GROUP BY s.queue_id, t.batch_id, t.priority"
    )
    return Outstanding(
        live,
        (
            Out(queue, sql.as_uuid(batch), priority, number, float(age))
            for queue, batch, priority, number, age in found
        ),
    )


def _age() -> str:
    """Seconds since a task was told of."""
    if sql.is_postgres():
        return f"extract(epoch from {sql.now()} - t.dispatched_at)"
    return "(julianday('now') - julianday(t.dispatched_at)) * 86400.0"


DISPATCHED = "t.state = 'queued' AND t.dispatched_at IS NOT NULL"
"""As the condition of the index is written."""
FIRST = (
    f"(SELECT f.dispatched_at FROM {sql.TASK} f WHERE f.state = 'queued' "
    "AND f.dispatched_at IS NOT NULL ORDER BY f.dispatched_at LIMIT 1)"
)
"""When the oldest of them was sent: from there on PostgreSQL looks at them alone, and not at what
the index has of all those that were claimed since the last vacuum."""


def _can_be_opened(lane: Lane, live: Sequence[Reader]) -> bool:
    """Has a worker that reads its queue got its workspace?"""
    return lane.workspace_id is None or any(
        reader.reads(lane.queue) and lane.workspace_id in reader.workspaces for reader in live
    )


def _room(lane: Lane, out: Outstanding, limited: set[str]) -> int:
    """How many tasks of a lane may be told of; notes queues and models that allow none."""
    room = out.room(lane.queue)
    if room <= 0 or not lane.limited:
        return room
    if lane.queue in limited or lane.wants_only(limited):
        return 0
    limited |= model_limits.full(_model_places(lane))
    if lane.wants_only(limited):
        return 0
    ahead = Ahead(out.by_queue[lane.queue], out.by_batch[lane.batch_id])
    return places_left(lane, room, limited, ahead=ahead)


TAKE_A_PLACE = (model_limits.RUNNING, DISPATCHED)
"""What is told of is as good as running, for the limits of models."""


def _tell_lane(claimant: Claimant, lane: Lane, out: Outstanding, room: int) -> list[Message]:
    """Tell of as many tasks of a lane, where the limits of models allow it."""
    told: list[Message] = []
    while room > len(told):
        left = _model_places(lane)
        full = model_limits.full(left)
        if lane.wants_only(full):
            break
        most = min([room - len(told), *(places for places in left.values() if places > 0)])
        some = _tell_some(claimant.away | full, lane, out, most)
        told += some
        if not some or not lane.demands:
            break
    return told


def _model_places(lane: Lane) -> dict[str, int]:
    return model_limits.places_left(lane.models, taken_by=TAKE_A_PLACE)


def _tell_some(unfit: frozenset[str], lane: Lane, out: Outstanding, most: int) -> list[Message]:
    needs, away = without(unfit)
    chosen = (
        f"SELECT t.id FROM {sql.TASK} t WHERE {sql.READY.format(t='t')} AND t.lane = %s "
        f"AND {sql.unindexed('t.batch_id')} = %s {needs} "
        f"ORDER BY t.position LIMIT %s{sql.locked('FOR UPDATE SKIP LOCKED')}"
    )
    found = sql.prepared(
        f"UPDATE {sql.TASK} SET dispatched_at = {sql.now()}, dispatches = 1 "
        f"WHERE {sql.picked(chosen)} AND state = 'queued' "
        "RETURNING id, kind, priority, message_id, worker, position",
        [lane.number, sql.one_id(lane.batch_id), *away, most],
    )
    if found:
        out.add(Out(lane.queue, lane.batch_id, lane.priority, len(found), age=0.0))
    return [_message(row, lane.queue) for row in sorted(found, key=lambda row: int(row[5]))]


def _message(row: Sequence[Any], queue: str) -> Message:
    task_id = sql.as_uuid(row[0])
    message_id = task_id if row[3] is None else sql.as_uuid(row[3])
    return Message(task_id, row[1], queue, row[2], message_id, row[4])


def tell_again() -> list[Message]:
    """Messages that should be sent once more: nobody came with them for too long.

    Never for a queue that nobody reads. One that was not lost does no harm: the row is claimed
    once.
    """
    live = readers()
    waiting = sql.rows(
        f"SELECT t.id, s.queue_id, t.dispatches, {_age()} FROM {sql.TASK} t "
        f"JOIN {sql.SHARE} s ON {sql.SHARE_OF_TASK} WHERE {DISPATCHED}"
    )
    late = {
        sql.as_uuid(task_id): queue
        for task_id, queue, dispatches, seconds in waiting
        if (patience := _patience(queue, live, dispatches)) and float(seconds) > patience
    }
    if not late:
        return []
    # Another worker may have sent them a moment ago.
    still = _marked(f"{sql.in_ids('t.id')} AND t.dispatched_at < {sql.later('-1')}")
    found = sql.rows(
        f"UPDATE {sql.TASK} SET dispatched_at = {sql.now()}, dispatches = dispatches + 1 "
        f"WHERE {sql.picked(still)} AND state = 'queued' AND dispatched_at IS NOT NULL "
        "RETURNING id, kind, priority, message_id, worker",
        [sql.ids(late)],
    )
    return [_message(row, late[sql.as_uuid(row[0])]) for row in found]


def _patience(queue: str, live: Sequence[Reader], dispatches: int) -> float | None:
    reading = [reader for reader in live if reader.reads(queue)]
    if not reading:
        return None
    first = IDLE_PATIENCE if any(reader.idle for reader in reading) else PATIENCE
    return min(LONGEST_PATIENCE, first * 2.0 ** min(dispatches - 1, 16))


def not_told(tasks: Iterable[UUID]) -> int:
    """Take marks back: the messages were not sent, or came at a moment when nothing could run."""
    return take_back(sql.in_ids("t.id"), [sql.ids(tasks)])


def take_back(condition: str = "true", parameters: Sequence[Any] = ()) -> int:
    """Take back the marks of what a condition on the task ``t`` says, by default all."""
    return sql.change(
        f"UPDATE {sql.TASK} SET dispatched_at = NULL "
        f"WHERE {sql.picked(_marked(condition))} AND state = 'queued' "
        "AND dispatched_at IS NOT NULL",
        parameters,
    )


def _marked(condition: str) -> str:
    """Selects rows of which messages are out, in the order in which all lock them."""
    return (
        f"SELECT t.id FROM {sql.TASK} t WHERE {DISPATCHED} AND {condition} "
        f"ORDER BY t.id{sql.locked('FOR UPDATE SKIP LOCKED')}"
    )


NOT_HERE_SECONDS = 2.0
"""How long a task waits before another worker is told of it that may have its workspace."""


def not_here(task: UUID) -> int:
    """The worker that came cannot open its workspace: let it wait outside the window a moment.

    At once it would go to the same worker again, if that is the only idle one.
    """
    return sql.change(
        f"UPDATE {sql.TASK} SET dispatched_at = NULL, run_after = {sql.later('%s')} "
        "WHERE id = %s AND state = 'queued' AND dispatched_at IS NOT NULL",
        [NOT_HERE_SECONDS, sql.one_id(task)],
    )


def fresh_message(task: UUID) -> int:
    """Give a task's next message an id of its own: workers drop the one that was revoked."""
    return sql.change(
        f"UPDATE {sql.TASK} SET message_id = %s WHERE id = %s",
        [sql.one_id(uuid4()), sql.one_id(task)],
    )


def broker_came_back() -> int:
    """What was told before may be lost with the broker's memory: be impatient with it again."""
    return sql.change(
        f"UPDATE {sql.TASK} SET dispatches = 1 WHERE {sql.picked(_marked('t.dispatches > 1'))} "
        "AND state = 'queued' AND dispatched_at IS NOT NULL"
    )

"""How many more tasks the limits of a queue and of a batch allow to run now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.db import connection

from batches.queue import sql
from batches.queue.walk import Lane


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


def record_starts(queue: str, number: int) -> None:
    """Note that so many tasks of a queue with a rate limit start now."""
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO batches_start (queue_id, at) VALUES (%s, {sql.now()})",
            [(queue,)] * number,
        )

"""Tasks and batches that wait for others.

Whether a predecessor is unmet is always looked up, never counted down, and only after the settling
commit with the waiting row locked first: two predecessors that settle together would each subtract
from a count the other one has not committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db import transaction

from batches.queue import sql
from batches.states import BatchState

_DEPENDENTS = "batches_dependency"


def recompute_dependents(predecessors: Iterable[UUID]) -> frozenset[UUID]:
    """Free or fail the tasks that wait for these; returns the batches with tasks that failed.

    May be repeated at any time.
    """
    ids = list(predecessors)
    with transaction.atomic():
        sql.lock_batches(
            f"b.id IN (SELECT p.batch_id FROM {sql.TASK} p WHERE {sql.in_ids('p.id')})",
            [sql.ids(ids)],
        )
        children = sql.rows(
            f"""
            SELECT t.id FROM {sql.TASK} t
            WHERE t.state = 'queued' AND t.id IN (
                SELECT d.task_id FROM {_DEPENDENTS} d WHERE {sql.in_ids("d.predecessor_id")})
            ORDER BY t.id{sql.locked("FOR UPDATE")}
            """,
            [sql.ids(ids)],
        )
        waiting = [sql.as_uuid(row[0]) for row in children]
        if not waiting:
            return frozenset()
        _look_up_unmet(waiting)
        return _fail_hopeless("d.predecessor_id", ids)


def all_before(task: UUID) -> list[tuple[UUID, UUID]]:
    """Every link that leads to a task, however far: pairs of a task and one it comes after."""
    found = sql.rows(
        f"""
        WITH RECURSIVE link(task_id, predecessor_id) AS (
            SELECT d.task_id, d.predecessor_id FROM {_DEPENDENTS} d WHERE d.task_id = %s
            UNION
            SELECT d.task_id, d.predecessor_id FROM {_DEPENDENTS} d
            JOIN link ON d.task_id = link.predecessor_id
        )
        SELECT task_id, predecessor_id FROM link
        """,
        [sql.one_id(task)],
    )
    return [(sql.as_uuid(after), sql.as_uuid(before)) for after, before in found]


def waits(task: str) -> str:
    """A task has a predecessor that has not succeeded.

    From the last-submitted one backwards, which mostly ends last: looking at all of them at the end
    of each makes a task with many predecessors quadratic.
    """
    return (
        f"(SELECT d.predecessor_id FROM {_DEPENDENTS} d "
        f"JOIN {sql.TASK} p ON p.id = d.predecessor_id "
        f"WHERE d.task_id = {task} AND p.state <> 'succeeded' "
        "ORDER BY d.predecessor_id DESC LIMIT 1) IS NOT NULL"
    )


def _look_up_unmet(waiting: Sequence[UUID]) -> None:
    """A later statement than the lock: it sees what was committed while the lock was awaited."""
    unmet = waits(f"{sql.TASK}.id")
    sql.change(
        f"""
        UPDATE {sql.TASK} SET unmet_dependencies = (CASE WHEN {unmet} THEN 1 ELSE 0 END)
        WHERE {sql.in_ids("id")} AND state = 'queued' AND (unmet_dependencies > 0) <> ({unmet})
        """,
        [sql.ids(waiting)],
    )


def _fail_hopeless(column: str, tasks: Sequence[UUID]) -> frozenset[UUID]:
    """Fail what waits for a failed or cancelled task, and everything that waits for that.

    ``column``: whether the tasks are ``d.predecessor_id``, the ones that ended, or ``d.task_id``,
    the ones that wait, whose predecessors are all looked at.
    """
    doomed = sql.rows(
        f"""
        WITH RECURSIVE doomed(id) AS (
            SELECT d.task_id FROM {_DEPENDENTS} d JOIN {sql.TASK} p ON p.id = d.predecessor_id
            WHERE {sql.in_ids(column)} AND p.state IN ('failed', 'cancelled')
            UNION
            SELECT d.task_id FROM {_DEPENDENTS} d JOIN doomed ON doomed.id = d.predecessor_id
        )
        SELECT t.id FROM {sql.TASK} t JOIN doomed ON doomed.id = t.id
        WHERE t.state = 'queued' ORDER BY t.id{sql.locked("FOR UPDATE OF t")}
        """,
        [sql.ids(tasks)],
    )
    if not doomed:
        return frozenset()
    return fail_as_dependency(
        [sql.as_uuid(row[0]) for row in doomed], "A task it depends on did not succeed."
    )


def fail_as_dependency(tasks: Sequence[UUID], reason: str) -> frozenset[UUID]:
    """Fail queued tasks because of another one; returns their batches."""
    found = sql.rows(
        f"""
        UPDATE {sql.TASK} SET state = 'failed', failure = 'dependency', error = %s,
            finished_at = {sql.now()}, run_after = NULL, waiting_for = '', dispatched_at = NULL
        WHERE {sql.in_ids("id")} AND state = 'queued' RETURNING batch_id
        """,
        [reason, sql.ids(tasks)],
    )
    return frozenset(sql.as_uuid(row[0]) for row in found)


def revive_dependents(predecessors: Iterable[UUID]) -> None:
    """Queue again what failed because of these tasks, which were just queued again themselves.

    Runs in the caller's transaction, with the batch locked.
    """
    ids = list(predecessors)
    revived = sql.rows(
        f"""
        WITH RECURSIVE waiting(id) AS (
            SELECT d.task_id FROM {_DEPENDENTS} d WHERE {sql.in_ids("d.predecessor_id")}
            UNION
            SELECT d.task_id FROM {_DEPENDENTS} d JOIN waiting ON waiting.id = d.predecessor_id
        )
        UPDATE {sql.TASK} SET state = 'queued', failure = '', failures = 0, error = '',
            finished_at = NULL, run_after = NULL
        WHERE state = 'failed' AND failure = 'dependency' AND id IN (SELECT id FROM waiting)
        RETURNING id
        """,
        [sql.ids(ids)],
    )
    recount([*ids, *(sql.as_uuid(row[0]) for row in revived)])


def recount(tasks: Sequence[UUID]) -> None:
    """Look up the predecessors of tasks that were queued again.

    Runs in the caller's transaction; a retried task may still wait for another that failed.
    """
    _look_up_unmet(tasks)
    _fail_hopeless("d.task_id", tasks)


# -- batches that wait for batches ----------------------------------------------------------------


def recompute_followers(batch: UUID) -> frozenset[UUID]:
    """Free or fail the batches that come after this one; returns those to be closed."""
    followers = sql.rows(
        f"SELECT a.from_batch_id FROM {sql.BATCH}_after a WHERE a.to_batch_id = %s",
        [sql.one_id(batch)],
    )
    return frozenset(
        follower for row in followers if recompute_after(follower := sql.as_uuid(row[0]))
    )


def recompute_after(follower: UUID) -> bool:
    """Recompute what a batch still waits for; True when that is hopeless and its tasks failed.

    In chunks, each looking again: a batch it comes after may be retried meanwhile.
    """
    while True:
        with transaction.atomic():
            hopeless = _recompute_after(follower)
            failed = _fail_followers(follower) if hopeless else 0
        if failed < sql.CHUNK:
            return hopeless


def _recompute_after(follower: UUID) -> bool:
    locked = sql.rows(
        f"SELECT b.state FROM {sql.BATCH} b WHERE b.id = %s{sql.locked('FOR NO KEY UPDATE')}",
        [sql.one_id(follower)],
    )
    if not locked or locked[0][0] != BatchState.OPEN:
        return False
    [(unmet, hopeless)] = sql.rows(
        f"""
        SELECT count(CASE WHEN NOT ({COMPLETED}) THEN 1 END),
               count(CASE WHEN p.state = 'done' AND NOT ({COMPLETED}) THEN 1 END)
        FROM {sql.BATCH}_after a JOIN {sql.BATCH} p ON p.id = a.to_batch_id
        WHERE a.from_batch_id = %s
        """,
        [sql.one_id(follower)],
    )
    sql.change(
        f"UPDATE {sql.BATCH} SET unmet_after = %s WHERE id = %s",
        [unmet, sql.one_id(follower)],
    )
    return bool(hopeless)


def _fail_followers(batch: UUID) -> int:
    """One chunk of what waits in a batch; returns how many tasks."""
    queued = sql.rows(
        f"SELECT t.id FROM {sql.TASK} t WHERE t.batch_id = %s AND t.state = 'queued' "
        f"ORDER BY t.id LIMIT {sql.CHUNK}{sql.locked('FOR UPDATE')}",
        [sql.one_id(batch)],
    )
    fail_as_dependency(
        [sql.as_uuid(row[0]) for row in queued], "A batch it comes after did not complete."
    )
    return len(queued)


COMPLETED = (
    f"p.state = 'done' AND p.cancel_requested_at IS NULL AND NOT {sql.has('failed', 'p.id')}"
)
"""Of a batch ``p``: every task is finished and none failed, and nobody cancelled it."""

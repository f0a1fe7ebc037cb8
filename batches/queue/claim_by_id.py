"""Taking the one task that a message named, by every rule of ``claim``."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from batches.queue import model_limits, sql
from batches.queue.claim import Claimed, Lease, lock_starting, mark_started, take, written
from batches.queue.limits import places_left, record_starts
from batches.queue.needs import nothing_away, without
from batches.queue.walk import Claimant, lane_of


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
        if not (lane.started or lock_starting({lane.batch_id}, "FOR NO KEY UPDATE")):
            return None
        picked = (
            f"SELECT t.id FROM {sql.TASK} t WHERE t.id = %s AND {sql.MAY_RUN.format(t='t')} "
            f"AND {nothing_away()} {needs}{sql.locked('FOR UPDATE OF t')}"
        )
        taken = take(claimant, [lane], picked, [sql.one_id(task), *full])
        if taken and lane.rated:
            record_starts(lane.queue, 1)
        if taken and not lane.started:
            mark_started({lane.batch_id})
    return taken[0] if taken else None


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
        UPDATE {sql.TASK} AS t SET {written()}
        FROM {sql.BATCH} b, {sql.SHARE} s JOIN {sql.QUEUE} q ON q.name = s.queue_id
        WHERE t.id = %s AND {sql.MAY_RUN.format(t="t")} AND b.id = t.batch_id
          AND {sql.SHARE_OF_TASK}
          AND b.backend = %s AND {sql.OPEN} AND b.started_at IS NOT NULL AND {here}
          AND b.parallel IS NULL AND q.concurrency_limit IS NULL AND q.rate_limit IS NULL
          AND (b.deadline IS NULL OR b.deadline > {sql.now()})
          AND {nothing_away()}
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

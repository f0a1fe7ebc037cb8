"""What a worker could claim at this moment, and since when. Nothing here writes."""

from __future__ import annotations

from batches.lanes import HIGHEST, LOWEST, lane_of
from batches.queue import sql


def waiting() -> dict[str, float]:
    """Queue → seconds that its oldest batch with a claimable task has waited.

    Counted from when the batch was sealed, was due or was retried, whichever came last: when a
    task came back from a backoff is not kept. Limits, resources and workers that are not there
    are left out of account. A few index probes for each open batch, however many tasks it has.
    """
    lanes = ", ".join(
        f"s.number + {lane_of(priority, 0)}" for priority in range(LOWEST, HIGHEST + 1)
    )
    latest = "greatest" if sql.is_postgres() else "max"
    since = (
        f"{latest}(b.sealed_at, coalesce(b.run_at, b.sealed_at), "
        "coalesce(b.retried_at, b.sealed_at))"
    )
    age = (
        f"extract(epoch from {sql.now()} - {since})"
        if sql.is_postgres()
        else f"(julianday('now') - julianday({since})) * 86400.0"
    )
    # By the first position rather than EXISTS: see ``sql.has``.
    found = sql.rows(
        f"""
        SELECT s.queue_id, max({age})
        FROM {sql.BATCH} b JOIN {sql.SHARE} s ON s.batch_id = b.id
        JOIN {sql.QUEUE} q ON q.name = s.queue_id
        WHERE b.state = 'open' AND b.sealed_at IS NOT NULL AND b.paused_at IS NULL
          AND b.cancel_requested_at IS NULL AND b.unmet_after = 0 AND q.paused_at IS NULL
          AND (b.deadline IS NULL OR b.deadline > {sql.moment()})
          AND (SELECT t.position FROM {sql.TASK} t
               WHERE {sql.READY.format(t="t")} AND t.lane IN ({lanes})
               ORDER BY t.lane, t.position LIMIT 1) IS NOT NULL
        GROUP BY s.queue_id
        """
    )
    return {queue: max(0.0, float(seconds)) for queue, seconds in found}

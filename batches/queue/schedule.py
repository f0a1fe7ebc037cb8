"""Scheduled rows: they wait outside the claim index until their time has come."""

from __future__ import annotations

from batches.queue import sql


def wake_due(limit: int = 5000) -> int:
    """Put rows whose ``run_after`` has come into the claim index; returns how many."""
    due = (
        f"SELECT t.id FROM {sql.TASK} t WHERE t.state = 'queued' AND t.run_after IS NOT NULL "
        f"AND t.run_after <= {sql.moment()} "
        f"ORDER BY t.run_after LIMIT %s{sql.locked('FOR UPDATE SKIP LOCKED')}"
    )
    return sql.change(
        f"UPDATE {sql.TASK} SET run_after = NULL WHERE {sql.picked(due)} AND state = 'queued'",
        [limit],
    )


def seconds_until_due() -> float | None:
    """Seconds until the next scheduled row is due (0 when one is overdue); None without one."""
    gap = (
        f"extract(epoch from min(t.run_after) - {sql.now()})"
        if sql.is_postgres()
        else "(julianday(min(t.run_after)) - julianday('now')) * 86400.0"
    )
    [(seconds,)] = sql.rows(
        f"SELECT {gap} FROM {sql.TASK} t WHERE t.state = 'queued' AND t.run_after IS NOT NULL"
    )
    return None if seconds is None else max(0.0, float(seconds))

"""The end of a submission: its rows are all in, and may be claimed."""

from __future__ import annotations

from uuid import UUID

from batches.queue import sql
from batches.queue.closing import close_finished
from batches.queue.dependencies import recompute_after
from batches.queue.priorities import inherit, inherit_some
from batches.queue.wishes import Also, locked, nothing


def seal(batch: UUID, also: Also = nothing) -> bool:
    """Make a batch whose rows are all in claimable; False when it was sealed already."""
    # A priority may have changed while rows were inserted with the old one.
    inherit(batch)
    with locked(batch) as row:
        # And once more with the lock: few, if any, changed since.
        while inherit_some(row) >= sql.CHUNK:
            pass
        changed = sql.change(
            f"UPDATE {sql.BATCH} SET sealed_at = {sql.now()} WHERE id = %s AND sealed_at IS NULL",
            [sql.one_id(batch)],
        )
        if changed:
            also()
    if changed and row.unmet_after and recompute_after(batch):
        close_finished([batch])
    return changed == 1

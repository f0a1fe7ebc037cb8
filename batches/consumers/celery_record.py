"""Celery's record of what a pool process runs: written with the row, never instead of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.utils import timezone

from batches import mirror
from batches.celery_words import STARTED, celery_status
from batches.queue.claim import Claimed, Lease
from batches.queue.lease import holds
from batches.queue.verdicts import Settled, Verdict
from batches.states import TaskState

logger = logging.getLogger(__name__)


class CeleryRecord:
    """Of the one task that a pool process holds; what is handed back unbegun has none."""

    def __init__(self) -> None:
        self.ended: dict[Lease, Settled] = {}
        """What counted, until somebody takes it out."""
        self._claimed: Claimed | None = None
        self._hostname = ""

    def of(self, claimed: Claimed, hostname: str) -> None:
        """From now on it is about this task; ``hostname`` is the worker's, as Celery names it."""
        self._claimed = claimed
        self._hostname = hostname

    def say_started(self, seconds_ago: float) -> None:
        """Only while the lease holds: another worker may have written the end."""
        claimed = self._claimed
        if claimed is None:
            return
        try:
            with transaction.atomic():
                if holds(claimed.lease):
                    mirror.write([self._record(claimed, STARTED, _before(seconds_ago))])
        except DatabaseError:
            logger.exception("Celery's record of %s stays behind", claimed.lease.task_id)
            connection.close()

    def write(self, entries: Sequence[tuple[Verdict, Settled]]) -> None:
        """As ``batches.queue.verdicts.Also`` says."""
        claimed = self._claimed
        mirror.write(
            self._ended(claimed, verdict, settled.state, settled.failure)
            for verdict, settled in entries
            if claimed is not None and verdict.lease == claimed.lease
        )

    def insert(
        self, verdict: Verdict, state: TaskState, failure: str
    ) -> tuple[str, list[Any]] | None:
        """As ``batches.queue.verdicts.Also`` says."""
        claimed = self._claimed
        if claimed is None or verdict.lease != claimed.lease:
            return None
        return mirror.insert(self._ended(claimed, verdict, state, failure))

    def counted(self, settled: Sequence[Settled]) -> None:
        """As ``batches.queue.verdicts.Also`` says."""
        self.ended |= {one.lease: one for one in settled}

    def _ended(
        self, claimed: Claimed, verdict: Verdict, state: TaskState, failure: str
    ) -> mirror.Record:
        status = celery_status(state, verdict.lease.attempt)
        return self._record(claimed, status, _before(verdict.seconds), verdict, failure)

    def _record(
        self,
        claimed: Claimed,
        status: str,
        began: datetime,
        verdict: Verdict | None = None,
        failure: str = "",
    ) -> mirror.Record:
        return mirror.Record(
            task_id=claimed.lease.task_id,
            kind=claimed.kind,
            status=status,
            worker=self._hostname,
            started_at=began,
            result=verdict.result if verdict else None,
            failure=failure,
            error=verdict.error if verdict else "",
        )


def _before(seconds: float) -> datetime:
    return timezone.now() - timedelta(seconds=seconds)

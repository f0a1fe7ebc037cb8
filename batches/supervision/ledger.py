"""Verdicts and log lines on their way into the database, several to a commit."""

from __future__ import annotations

import logging
from collections.abc import Container, Sequence
from dataclasses import replace

from django.db import DataError, IntegrityError, transaction

from batches.backends.database import wake
from batches.models import Artefact, LogLine
from batches.queue import resources
from batches.queue.claim import Claimed, Lease
from batches.queue.closing import follow_up
from batches.queue.settle import settle
from batches.queue.verdicts import Also, Settled, Verdict
from batches.states import AttemptOutcome
from batches.supervision.artefacts import discard

logger = logging.getLogger(__name__)


class Ledger:
    """Keeps what has not been committed yet: a database that is away for a while loses nothing."""

    def __init__(self, also: Also | None = None) -> None:
        """``also`` is written with the verdicts that count, in their transaction."""
        self._also = also
        self._verdicts: list[tuple[Claimed, Verdict]] = []
        self._lines: list[LogLine] = []

    def __len__(self) -> int:
        return len(self._verdicts)

    def log(self, line: LogLine) -> None:
        self._lines.append(line)

    def add(self, claimed: Claimed, verdict: Verdict) -> None:
        self._verdicts.append((claimed, verdict))

    def _write_lines(self) -> None:
        while lines := self._lines[:1000]:
            try:
                with transaction.atomic():
                    LogLine.objects.bulk_create(lines)
            except (DataError, IntegrityError):
                # One line cannot be stored: it must not hold up the others, nor any answer.
                _store_one_by_one(lines)
            del self._lines[: len(lines)]

    def commit(self) -> list[Settled]:
        """Store everything and set going what follows; returns the verdicts that counted.

        Raises:
            OperationalError: the database is away. Nothing is lost: call again.
        """
        self._write_lines()
        if not self._verdicts:
            return []
        entries = list(self._verdicts)
        settled = self._settle([verdict for _, verdict in entries])
        del self._verdicts[: len(entries)]
        if self._also is not None:
            self._also.counted(settled)
        counted = {item.lease for item in settled}
        for claimed, verdict in entries:
            if verdict.lease not in counted:
                logger.warning(
                    "the lease was lost, its answer is void: %s",
                    verdict.lease,
                    extra=_ids(verdict, claimed),
                )
                _discard(verdict)
            elif verdict.outcome == AttemptOutcome.UNAVAILABLE:
                resources.park([verdict.resource])
        if logger.isEnabledFor(logging.DEBUG):
            _log_settled(entries, counted)
        follow_up(settled)
        if any(claimed.limited for claimed, _ in entries):
            # Other workers were held back by a limit that has room again now.
            wake()
        return settled

    def _settle(self, verdicts: Sequence[Verdict]) -> list[Settled]:
        try:
            return settle(verdicts, self._also)
        except (DataError, IntegrityError) as error:
            if len(verdicts) > 1:
                # One answer cannot be stored: it must not take the others with it.
                return [item for verdict in verdicts for item in self._settle([verdict])]
            logger.exception("an answer cannot be stored")
            discard(verdicts[0].files)
            only = replace(
                verdicts[0],
                outcome=AttemptOutcome.ERROR,
                result=None,
                files=(),
                error=f"The answer cannot be stored: {type(error).__name__}",
            )
            return settle([only], self._also)


def _ids(verdict: Verdict, claimed: Claimed) -> dict[str, object]:
    """What a log line about an attempt is found by."""
    lease = verdict.lease
    return {"batch": claimed.batch_id, "task": lease.task_id, "attempt": lease.attempt}


def _log_settled(entries: Sequence[tuple[Claimed, Verdict]], counted: Container[Lease]) -> None:
    for claimed, verdict in entries:
        if verdict.lease in counted:
            logger.debug(
                "%s after %.3f s", verdict.outcome, verdict.seconds, extra=_ids(verdict, claimed)
            )


def _store_one_by_one(lines: Sequence[LogLine]) -> None:
    for line in lines:
        try:
            with transaction.atomic():
                line.save(force_insert=True)
        except (DataError, IntegrityError):
            logger.exception("a log line of %s cannot be stored: %s", line.task_id, line.event)


def _discard(verdict: Verdict) -> None:
    """Delete the files of a void answer.

    A connection that broke between a commit and its confirmation makes a stored answer look void
    when it is sent again: what the database knows of is kept.
    """
    paths = {file.path for file in verdict.files}
    known = set(Artefact.objects.filter(file__in=paths).values_list("file", flat=True))
    discard(file for file in verdict.files if file.path not in known)

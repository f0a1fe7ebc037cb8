"""Deleting a batch with all it left. From the first step on nobody can do anything else with it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from django.core.files.storage import default_storage
from django.db import connection, transaction

from batches.models import Artefact, Attempt, Batch, Decision, Dependency, LogLine, Task
from batches.queue import sql
from batches.states import BatchState

logger = logging.getLogger(__name__)

CHUNK = 2000
"""Tasks deleted in one transaction: a longer one would keep every other writer waiting."""


def remove_batch(batch: UUID, *, finished_before: datetime | None = None) -> Iterator[int]:
    """Delete a finished or unsealed batch in chunks; yields how many tasks are gone after each.

    The last time is once the batch itself has gone; it yields nothing when the batch is open, when
    an open one comes after it or resumes it, or when it finished later. Whoever stops in between
    leaves an unsealed batch behind, whose deletion may be taken up by anyone.
    """
    if not _unseal(batch, finished_before):
        return
    gone = 0
    while number := _remove_tasks(batch):
        gone += number
        if number == CHUNK:
            yield gone
    Batch.objects.filter(pk=batch, sealed_at__isnull=True).delete()
    yield gone


def delete_batch(batch: UUID) -> bool:
    """Delete a batch in one go; False if it may not be deleted."""
    return bool(list(remove_batch(batch)))


def _unseal(batch: UUID, finished_before: datetime | None) -> bool:
    """Make a finished batch a leftover of no submission, which nobody can claim from or retry.

    With its row locked, as a retry does: one of the two finds what the other has done.
    """
    with transaction.atomic():
        sql.lock_batches("b.id = %s", [sql.one_id(batch)])
        rows = Batch.objects.filter(pk=batch)
        if rows.filter(followers__state=BatchState.OPEN).exists():
            return False
        if Batch.objects.filter(resumes=batch, state=BatchState.OPEN).exists():
            return False
        if rows.filter(sealed_at__isnull=True).exists():
            return True
        done = rows.filter(state=BatchState.DONE)
        if finished_before is not None:
            done = done.filter(finished_at__lt=finished_before)
        changed = done.update(state=BatchState.OPEN, sealed_at=None, finished_at=None, summary=None)
        return changed == 1


def _remove_tasks(batch: UUID) -> int:
    """Delete the next tasks with their files and records."""
    tasks = list(Task.objects.filter(batch=batch).values_list("pk", flat=True)[:CHUNK])
    artefacts = Artefact.objects.filter(task__in=tasks)
    for path in artefacts.values_list("file", flat=True):
        try:
            default_storage.delete(path)
        except OSError as error:
            # It is left lying there: one file must not keep all the rest.
            logger.warning("The file %s could not be deleted: %s", path, error)
    with transaction.atomic():
        _delete_raw(artefacts)
        for rows in (LogLine, Attempt, Dependency):
            _delete_raw(rows.objects.filter(task__in=tasks))
        _delete_raw(Dependency.objects.filter(predecessor__in=tasks))
        _delete_raw(Decision.objects.filter(task__in=tasks))
        Decision.objects.filter(applying__in=tasks).update(applying=None)
        _delete_raw(Task.objects.filter(pk__in=tasks))
    return len(tasks)


def _delete_raw(rows: object) -> None:
    """Without collecting what hangs on the rows: it was deleted before them."""
    rows._raw_delete(connection.alias)  # type: ignore[attr-defined]  # noqa: SLF001

"""Submitting batches."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.auth.models import User

from batches import audit, dispatch, idempotency
from batches.audit import Actor
from batches.backends.database import wake
from batches.idempotency import KeyReused
from batches.intake import admit
from batches.models import Batch
from batches.operations.given import counted
from batches.states import BackendName
from batches.submission import Submission


def submit(
    owner: User,
    submission: Submission,
    *,
    by: Actor | None = None,
    also: Callable[[Batch], object] = lambda _batch: None,
) -> Batch:
    """Store a batch and let its tasks be claimed.

    Everything is validated before the first row is written. ``also`` is called in the transaction
    that lets them be claimed.

    Raises:
        InvalidSubmission: with every error found; nothing was stored.
    """

    def sealed(batch: Batch) -> None:
        also(batch)
        audit.record(by, batch, f"Submitted with {counted(batch.total, 'task')}", audit.ADDITION)

    batch = admit(owner, submission, sealed)
    wake()
    if batch.backend == BackendName.CELERY:
        batch.unsent = not dispatch.nudge()
    return batch


def submit_once(
    owner: User,
    key: str,
    wanted: Callable[[], Submission],
    fingerprint: Callable[[], str],
    *,
    by: Actor | None = None,
) -> tuple[Batch, bool]:
    """Submit what is wanted, unless it was submitted under this key: the batch, and whether it was.

    ``fingerprint`` is asked once all of the submission has been read, or in its place.

    Raises:
        InvalidSubmission: nothing was stored, and the key is free again.
        KeyReused: the key stands for a submission with another fingerprint.
        Conflict: under this key a submission is in progress.
    """
    taken = idempotency.take(owner, key)
    if taken.batch is not None:
        if taken.fingerprint != fingerprint():
            raise KeyReused
        return taken.batch, True

    def complete(batch: Batch) -> None:
        idempotency.complete(taken, batch, fingerprint())

    try:
        return submit(owner, wanted(), by=by, also=complete), False
    except BaseException:
        idempotency.give_back(taken)
        raise

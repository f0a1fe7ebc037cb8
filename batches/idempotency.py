"""A submission sent again under its key is the same submission, for a day.

One row per user and key is inserted before the work and gets its batch in the transaction that
seals it: a key has a batch exactly when the batch can be seen.
"""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.models import User
from django.db.models import Q
from django.db.models.functions import Now

from batches.models import Batch, SubmissionKey
from batches.queue.wishes import Conflict

KEPT = timedelta(hours=24)
ABANDONED_AFTER = timedelta(minutes=5)
"""A submission that is at work for longer has died, or has to give way to who sends it again."""
CHUNK = 1000


class KeyReused(Exception):
    """The key stands for another submission."""

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used for another body: choose a new one.")


class KeyInUse(Conflict):
    """Under this key a submission is at work."""

    def __init__(self) -> None:
        super().__init__("A submission with this Idempotency-Key is in progress; try again later.")


def take(user: User, key: str) -> SubmissionKey:
    """The row of a key: with the batch it stands for, or without one and to be completed.

    Raises:
        KeyInUse: another submission is at work under it.
    """
    while True:
        mine = SubmissionKey(user=user, key=key)
        SubmissionKey.objects.bulk_create([mine], ignore_conflicts=True)
        found = SubmissionKey.objects.select_related("batch").filter(user=user, key=key).first()
        if found is not None and found.pk == mine.pk:
            return found
        if found is None or _removed(found):
            continue
        if found.batch is None:
            raise KeyInUse
        return found


def complete(taken: SubmissionKey, batch: Batch, fingerprint: str) -> None:
    """Let the key stand for the batch; belongs into the transaction that seals it.

    Raises:
        KeyInUse: it took too long, and the same was sent again meanwhile.
    """
    rows = SubmissionKey.objects.filter(pk=taken.pk, batch=None)
    if rows.update(batch=batch, fingerprint=fingerprint) != 1:
        raise KeyInUse


def give_back(taken: SubmissionKey) -> None:
    """Forget a key whose submission failed; one that stands for a batch is kept."""
    SubmissionKey.objects.filter(pk=taken.pk, batch=None).delete()


def forget_old() -> None:
    """Delete the keys that are no longer remembered, in chunks."""
    old = SubmissionKey.objects.filter(taken_at__lt=Now() - KEPT)
    while ids := list(old.values_list("pk", flat=True)[:CHUNK]):
        SubmissionKey.objects.filter(pk__in=ids).delete()


def _removed(found: SubmissionKey) -> bool:
    """Remove a key that is old, whose submission has died, or whose batch is being deleted."""
    rows = SubmissionKey.objects.filter(pk=found.pk)
    if found.batch is not None and found.batch.sealed_at is None:
        rows.delete()
        return True
    # In one statement: it may be completed at this very moment.
    spent = Q(taken_at__lt=Now() - KEPT) | Q(batch=None, taken_at__lt=Now() - ABANDONED_AFTER)
    removed, _ = rows.filter(spent).delete()
    return removed > 0

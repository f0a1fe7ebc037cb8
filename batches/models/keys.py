"""Idempotency keys: what each was used for, while that is remembered."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from batches.models.batch import Batch, new_id


class SubmissionKey(models.Model):
    """A key of a user's. Without a batch, the submission that took it is still at work."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="submission_keys"
    )
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, blank=True)
    batch = models.ForeignKey(Batch, models.CASCADE, null=True, related_name="keys")
    taken_at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "key"], name="key_unique"),
            models.CheckConstraint(
                condition=Q(batch__isnull=True, fingerprint="")
                | Q(Q(batch__isnull=False), ~Q(fingerprint="")),
                name="key_fingerprint_iff_batch",
            ),
        ]

    def __str__(self) -> str:
        return self.key

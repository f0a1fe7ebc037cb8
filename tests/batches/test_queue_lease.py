"""What a lease allows while it lasts."""

from __future__ import annotations

import pytest
from django.utils import timezone

from batches.models import Batch
from batches.queue import lease as leases
from tests.queueing import take

pytestmark = pytest.mark.django_db


def test_an_effect_is_refused_once_the_batch_is_being_cancelled(operator, make_batch):
    batch = make_batch(operator, 1)
    [claimed] = take()
    Batch.objects.filter(pk=batch.pk).update(cancel_requested_at=timezone.now())
    assert not leases.announce_effect(claimed.lease)
    assert batch.tasks.get().effect_at is None

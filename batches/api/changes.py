"""What may be changed of a batch or a task, and what a retry may name."""

from __future__ import annotations

from typing import Any

from batches.api.fields import Boolean, Choice, Id, Integer, Listing, StrictSerializer
from batches.lanes import HIGHEST, LOWEST
from batches.states import Failure


class Paused(Boolean):
    """Reads ``paused_at``: set is true."""

    def get_attribute(self, instance: Any) -> bool:
        return instance.paused_at is not None


class BatchChange(StrictSerializer):
    """A priority of null is the queue's; ``parallel`` null is no limit."""

    priority = Integer(min_value=LOWEST, max_value=HIGHEST, allow_null=True, required=False)
    parallel = Integer(min_value=1, allow_null=True, required=False)
    paused = Paused(required=False)


class TaskChange(StrictSerializer):
    priority = Integer(min_value=LOWEST, max_value=HIGHEST)


class QueueChange(StrictSerializer):
    """A limit of null is none."""

    priority = Integer(min_value=LOWEST, max_value=HIGHEST, required=False)
    paused = Paused(required=False)
    concurrency_limit = Integer(min_value=1, allow_null=True, required=False)
    rate_limit = Integer(min_value=1, allow_null=True, required=False)


class Retry(StrictSerializer):
    """Which of the failed tasks; with neither, all of them."""

    failure = Listing(child=Choice(Failure.choices), required=False, allow_empty=False)
    ids = Listing(child=Id(), required=False, allow_empty=False, max_length=10_000)


class Nothing(StrictSerializer):
    """A call whose address says it all."""

"""A lane is one (priority, batch) group of tasks, as a single sortable number.

Lanes sort as tasks are claimed: the higher priority first, then the older batch. So one index
over (lane, position) is the claim order, and a paused or capped batch is stepped over as a whole.
"""

LOWEST, HIGHEST = 0, 10
_SPAN = 1 << 52  # a batch's number is microseconds since 1970: enough until 2112


def lane_of(priority: int, batch_number: int) -> int:
    """The lane of ``priority`` (0 to 10) and a batch's number."""
    return (HIGHEST - priority) * _SPAN + batch_number


BATCH_NUMBER = _SPAN - 1
"""Mask: ``lane & BATCH_NUMBER`` is the batch's number."""


def priority_of(lane: int) -> int:
    """The priority that a lane is of."""
    return HIGHEST - lane // _SPAN

"""How many leases may wait in one slot: few for slow kinds, many for kinds that take no time.

A lease that waits in a slot is kept from other workers, and is run again when this worker dies.
So it is one for everything that takes longer than 50 ms, where a round trip does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field

AHEAD = 0.05
"""Seconds of work that may wait in a slot."""
MOST = 500
WEIGHT = 0.2
"""Of the newest run time in the moving average."""


@dataclass(slots=True)
class Pace:
    """Measured run times by kind."""

    _mean: dict[str, float] = field(default_factory=dict)
    _seen: dict[str, int] = field(default_factory=dict)

    def ran(self, kind: str, seconds: float) -> None:
        mean = self._mean.get(kind)
        if mean is None or seconds > AHEAD:
            # One slow task is reason enough to stop holding others behind it.
            mean = seconds if mean is None else max(mean, seconds)
        self._mean[kind] = mean + WEIGHT * (seconds - mean)
        self._seen[kind] = min(self._seen.get(kind, 0) + 1, MOST)

    def depth(self, kind: str) -> int:
        """Leases of this kind that one slot may hold; grows with what is known of the kind."""
        mean = self._mean.get(kind)
        if mean is None or mean >= AHEAD:
            return 1
        return max(1, min(MOST, int(AHEAD / max(mean, 1e-6)), self._seen[kind] * 2))


@dataclass(slots=True)
class Room:
    """Free places over all slots, for one claim. Long kinds leave one slot to the others."""

    pace: Pace
    free: float
    free_for_long: float
    kinds: dict[str, bool]
    """Kind → is it long? Others are not for this worker."""

    def left(self, kind: str) -> int:
        if kind not in self.kinds:
            return 0
        free = self.free_for_long if self.kinds[kind] else self.free
        return int(free * self.pace.depth(kind) + 1e-6)

    def take(self, kind: str, number: int) -> None:
        used = number / self.pace.depth(kind)
        self.free -= used
        if self.kinds[kind]:
            self.free_for_long -= used
        self.free_for_long = min(self.free_for_long, self.free)

    def full(self) -> bool:
        return all(self.left(kind) <= 0 for kind in self.kinds)

"""Tasks that are no work, to measure what surrounds it. Only ``config.benchmark`` has them."""

from __future__ import annotations

import time

from agents.contract import JSON, Outcome, ProcessorContext, Succeeded


class Noop:
    """Answers at once, with nothing."""

    recycle_after = 100_000
    needs_workspace = False

    def validate(self, payload: JSON, settings: JSON) -> JSON:  # noqa: ARG002
        return payload

    def replay_safe(self, payload: JSON) -> bool:  # noqa: ARG002
        return True

    def resources(self, payload: JSON) -> list[str]:  # noqa: ARG002
        return []

    def probe(self, resource: str, settings: JSON) -> bool:  # noqa: ARG002
        return True

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:  # noqa: ARG002
        return Succeeded({})


class Clock(Noop):
    """Answers with the time at which it began, in seconds since 1970."""

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:  # noqa: ARG002
        return Succeeded({"began": time.time()})

"""Asking at once whether resources can be reached, each in a slot process of its own."""

from __future__ import annotations

import math
import select
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from agents.contract import JSON
from batches import registry
from batches.supervision.slots import SlotProcess

SIDE_BY_SIDE = 4
"""Asked at once: each costs a process that imports what its kind needs."""


@dataclass(frozen=True, slots=True)
class Question:
    """Is this resource there? ``settings`` is what the rows add to the settings of its kind."""

    resource: str
    kind: registry.Kind
    settings: JSON
    patience: float
    """Seconds that it is given to answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``reason`` says why not; it is written for whoever set the resource up."""

    ok: bool
    reason: str
    seconds: float
    found: JSON
    """What the processor found there; empty where it did not answer."""


def kind_told_by(settings_of: Callable[[], JSON]) -> registry.Kind:
    """The kind whose processor is told these settings, and so can probe what they are of."""
    path = f"{settings_of.__module__}.{settings_of.__qualname__}"
    return next(kind for kind in registry.kinds().values() if kind.settings_path == path)


def ask_each(
    questions: Iterable[Question], *, within: float = math.inf
) -> Iterator[tuple[Question, Answer]]:
    """Ask several side by side, and give each answer as soon as it is there.

    It ends after ``within`` seconds: none is given more than half of them, and none is begun in
    the second half. Those that were not begun are left out.
    """
    end_of_begins = time.monotonic() + within / 2
    waiting = deque(questions)
    with ExitStack() as cleanup:
        asked: list[_Asked] = []
        while True:
            while waiting and len(asked) < SIDE_BY_SIDE and time.monotonic() < end_of_begins:
                begun = _Asked(waiting.popleft(), within / 2)
                cleanup.callback(begun.end)
                asked.append(begun)
            if not asked:
                return
            _wait(asked)
            for one in tuple(asked):
                if answer := one.answer():
                    asked.remove(one)
                    one.end()
                    yield one.question, answer


class _Asked:
    """A question that was asked, and the slot that asks it."""

    def __init__(self, question: Question, most: float) -> None:
        self.question = question
        self._began = time.monotonic()
        self.until = self._began + min(most, question.patience)
        self._folder = tempfile.TemporaryDirectory(prefix="oc-check-")
        scratch = Path(self._folder.name) / "slot"
        self.slot = SlotProcess(0, scratch, settings.PROCESSOR_SETTINGS | question.settings)
        self.slot.probe(question.resource, question.kind.processor_path)

    def answer(self) -> Answer | None:
        """What came of it, once that is known."""
        self.slot.flush()
        alive = self.slot.receive()
        for message in self.slot.inbox:
            if message["event"] == "probe":
                return self._told(message)
        self.slot.inbox.clear()
        if not alive:
            return self._failed("the process that should have asked it ended")
        if time.monotonic() >= self.until:
            return self._failed(f"no answer within {self.until - self._began:.0f} s")
        return None

    def _told(self, message: JSON) -> Answer:
        if not message["back"]:
            return self._failed(str(message["reason"]))
        return Answer(ok=True, reason="", seconds=self._seconds(), found=message["found"])

    def _failed(self, reason: str) -> Answer:
        return Answer(ok=False, reason=reason, seconds=self._seconds(), found={})

    def _seconds(self) -> float:
        return round(time.monotonic() - self._began, 3)

    def end(self) -> None:
        """Leave nothing of it; may be called twice."""
        if not self.slot.dead:
            self.slot.kill()
            self.slot.close()
            self._folder.cleanup()


def _wait(asked: Iterable[_Asked]) -> None:
    """Until one of the slots says something, or the time of one is up."""
    poll = select.poll()
    for one in asked:
        more = select.POLLOUT if one.slot.has_more_to_write else 0
        poll.register(one.slot.fileno(), select.POLLIN | more)
    left = min(one.until for one in asked) - time.monotonic()
    poll.poll(max(0.0, left) * 1000 + 1)

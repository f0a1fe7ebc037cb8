"""Kind → what the console knows of it, from ``settings.TASK_KINDS``; processors by dotted path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string

from agents.contract import JSON, Processor


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of task. ``items`` is the list field of a submission's body; without an ``endpoint``
    only the console itself submits it."""

    name: str
    processor_path: str
    endpoint: str
    items: str
    queue: str
    long: bool
    """Runs for minutes: it leaves one slot of a worker to the other kinds."""
    task: str
    """The name of its Celery task."""
    settings_path: str = ""
    """Dotted path of what the console adds to the settings of its processor, from its rows."""
    inputs_path: str = ""
    """Dotted path of what gives a task's ``context.inputs``, by the task's id."""
    tidy: bool = False
    """Attempts leave something in the workspace that is cleared up after one that was killed."""

    @property
    def processor(self) -> Processor:
        """The processor, for ``validate``, ``replay_safe`` and ``resources`` only: ``run`` and
        ``probe`` belong in a slot."""
        return _processor(self.processor_path)

    def settings(self) -> JSON:
        """What the rows add to ``PROCESSOR_SETTINGS`` now; secrets are resolved in it."""
        added: JSON = import_string(self.settings_path)() if self.settings_path else {}
        return added

    def inputs(self, task: UUID) -> JSON:
        """What the console adds to a task's payload when it runs.

        Raises:
            InputMissing: something that it needs is not there.
        """
        found: JSON = import_string(self.inputs_path)(task)
        return found


class InputMissing(Exception):
    """A task cannot begin without it; the text says what, and why it is not there."""


class UnknownKind(LookupError):
    """No such kind is configured; the message lists those that are."""


@cache
def _processor(path: str) -> Processor:
    processor: Processor = import_string(path)()
    return processor


def kinds() -> dict[str, Kind]:
    """Every configured kind, by name."""
    return {
        name: Kind(
            name=name,
            processor_path=entry["processor"],
            endpoint=entry["endpoint"],
            items=entry["items"],
            queue=entry["queue"],
            long=bool(entry.get("long")),
            task=entry.get("task", f"process_{name}"),
            settings_path=entry.get("settings", ""),
            inputs_path=entry.get("inputs", ""),
            tidy=bool(entry.get("tidy")),
        )
        for name, entry in settings.TASK_KINDS.items()
    }


def offered() -> dict[str, Kind]:
    """The kinds that people may submit, by name."""
    return {name: kind for name, kind in kinds().items() if kind.endpoint}


def kind(name: str) -> Kind:
    """One kind.

    Raises:
        UnknownKind: it is not configured.
    """
    try:
        return kinds()[name]
    except KeyError:
        raise UnknownKind(f"{name!r} is not one of {', '.join(sorted(kinds()))}") from None

"""Which tasks of a batch are exported, and how they are read.

Rows are read in short pages by key: one long read would keep SQLite's log from being folded back,
and PostgreSQL's old rows from being removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

from django.db.models import Q

from batches.models import Artefact, Batch, Task
from batches.querysets import TaskQuerySet
from batches.queue.wishes import Conflict

Row: TypeAlias = dict[str, Any]

BEST_FORMAT = {"validation": "sarif", "test": "junit"}
"""Kind → the format made for what its tasks find."""


def _unwatched(_number: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Selection:
    """The tasks of a batch, or those in one of ``states``."""

    batch: Batch
    states: tuple[str, ...] = ()
    done: Callable[[int], None] = _unwatched
    """Told the number of tasks of each page once they were exported."""

    def tasks(self) -> TaskQuerySet:
        """Unordered."""
        tasks: TaskQuerySet = Task.objects.filter(batch=self.batch)
        return tasks.filter(state__in=self.states) if self.states else tasks

    def pages(self, size: int, *fields: str) -> Iterator[list[Row]]:
        """The tasks by position and variant, in lists of ``size``, each as its ``fields``."""
        keyed = {"position", "variant", *fields}
        tasks = self.tasks().order_by("position", "variant")
        beyond = Q()
        while page := list(tasks.filter(beyond).values(*keyed)[:size]):
            last = page[-1]
            # Alone, the OR is no bound of an index: each page would step over all before it.
            beyond = Q(position__gte=last["position"]) & (
                Q(position__gt=last["position"]) | Q(variant__gt=last["variant"])
            )
            yield page
            self.done(len(page))

    def require(self, kind: str, what: str) -> None:
        """
        Raises:
            Conflict: the batch is of another kind, whose tasks find nothing of that sort.
        """
        if self.batch.kind != kind:
            better = [BEST_FORMAT[self.batch.kind]] if self.batch.kind in BEST_FORMAT else []
            raise Conflict(
                f"Only batches of kind {kind} have {what}; this one is of kind {self.batch.kind}. "
                f"Ask for its {' or '.join([*better, 'results'])}."
            )


def last_artefacts(page: Iterable[Row], name: str) -> dict[UUID, Artefact]:
    """Task → the file of that name that its last attempt left. Wants ``id`` and ``attempt``."""
    attempts = {row["id"]: row["attempt"] for row in page}
    if not attempts:
        return {}
    named = Artefact.objects.filter(task__in=attempts, name=name)
    return {kept.task_id: kept for kept in named if kept.attempt == attempts[kept.task_id]}

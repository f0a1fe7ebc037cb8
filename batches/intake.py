"""A submission becomes rows: all of it is vetted first, then inserted, then sealed."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone

from batches import variants
from batches.alike import Alike
from batches.graph import Graph
from batches.lanes import lane_of
from batches.models import Batch, Dependency, Queue, Share, Task
from batches.models.batch import new_id
from batches.queue import resources, sealing, sql
from batches.queue.removal import delete_batch
from batches.queue.wishes import Conflict
from batches.states import BatchState, PriorityFrom
from batches.submission import FieldError, InvalidSubmission, Submission
from batches.vetting import Errors, Plan, vet_batch, vet_items

CHUNK = 1000
"""Rows inserted in one transaction: a longer one would stall the renewals of running tasks."""
SPOOL_IN_MEMORY = 4 * 1024 * 1024


def admit(
    owner: User, submission: Submission, sealed: Callable[[Batch], object] = lambda _batch: None
) -> Batch:
    """Validate a submission and store it; returns the sealed batch.

    ``sealed`` is called in the transaction that seals it, and may refuse with a ``Conflict``.

    Raises:
        InvalidSubmission: nothing was stored.
    """
    errors = Errors()
    plan = vet_batch(owner, submission, errors)
    with _spool() as spool:
        graph = vet_items(owner, submission, plan, spool, errors)
        errors.raise_any()
        spool.seek(0)
        batch, numbers = _open_batch(owner, submission, plan, graph)
        try:
            places = {way: Place(way, queue, numbers[queue]) for way, queue in plan.queues.items()}
            _insert_tasks(batch, submission, plan, spool, graph, places)
        except BaseException:
            delete_batch(batch.pk)
            raise
    try:
        sealing.seal(batch.pk, lambda: sealed(batch))
    except Conflict:
        delete_batch(batch.pk)
        raise
    if away := resources.away():
        resources.park(away, batch.pk)
    batch.refresh_from_db()
    return batch


@contextmanager
def _spool() -> Iterator[IO[str]]:
    """A place for validated items, so that memory does not grow with the submission."""
    with tempfile.SpooledTemporaryFile(
        SPOOL_IN_MEMORY, mode="w+", encoding="utf-8", newline="\n"
    ) as spool:
        yield spool


def _open_batch(
    owner: User, submission: Submission, plan: Plan, graph: Graph
) -> tuple[Batch, dict[Queue, int]]:
    """The batch, unsealed, and the number that the lanes of each of its queues are of."""
    batch = Batch(
        kind=plan.kind.name,
        name=submission.name,
        owner=owner,
        workspace=plan.workspace,
        backend=plan.backend,
        queue=plan.queue,
        state=BatchState.OPEN,
        priority=submission.priority,
        parallel=submission.parallel,
        max_attempts=submission.max_attempts,
        timeout=plan.timeout,
        run_at=submission.run_at,
        deadline=submission.deadline,
        on_failure=submission.on_failure,
        labels=list(submission.labels),
        options=submission.options,
        demands=sorted(map(list, graph.demands)),
        variants=variants.stored(submission),
        resumes=submission.resume,
        left_out=len(graph.left_out),
        unmet_after=len(plan.after),
        total=graph.total,
    )
    while True:
        try:
            with transaction.atomic():
                _hold([other.pk for other in plan.after], "after")
                if submission.resume is not None:
                    _hold([submission.resume], "resume")
                batch.save(force_insert=True)
                batch.after.set(plan.after)
                shares = Share.objects.bulk_create(_shares(batch, plan))
        except IntegrityError:
            taken = {share.number for share in _shares(batch, plan)}
            if not Share.objects.filter(pk__in=taken).exists():
                raise
            batch.number += 1  # another submission came in the same microsecond
        else:
            return batch, {share.queue: share.number for share in shares}


def _shares(batch: Batch, plan: Plan) -> list[Share]:
    """One for each queue that a task of it is in; the first has the batch's number."""
    queues = sorted(dict.fromkeys(plan.queues.values()), key=lambda queue: queue != batch.queue)
    return [
        Share(number=batch.number + n, batch=batch, queue=queue, whole=len(queues) == 1)
        for n, queue in enumerate(queues)
    ]


def _hold(ids: list[UUID], field: str) -> None:
    """Keep the batches it builds on from being deleted, which their deletion does in turn."""
    sql.lock_batches(sql.in_ids("b.id"), [sql.ids(ids)])
    if Batch.objects.filter(pk__in=ids).sealed().count() != len(ids):
        raise InvalidSubmission([FieldError(field, "One of these batches is being deleted.")])


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tasks of a variant wait: in a queue, and in lanes of a number."""

    variant: str
    queue: Queue
    number: int


def _insert_tasks(
    batch: Batch,
    submission: Submission,
    plan: Plan,
    spool: IO[str],
    graph: Graph,
    places: dict[str, Place],
) -> None:
    links = Links(graph, [way.name for way in submission.ways])
    tasks = Alike(_pattern(batch, submission, plan), *OWN_COLUMNS)
    while chunk := list(itertools.islice(spool, CHUNK)):
        with transaction.atomic():
            tasks.insert(
                (
                    *links.columns(position, variant),
                    *_own(batch, plan, places[variant], own),
                )
                for position, variant, own in map(_spooled, chunk)
            )
    pairs = links.pairs()
    while some := list(itertools.islice(pairs, CHUNK)):
        Dependency.objects.bulk_create(some)


class Links:
    """Who depends on whom, as ids: within a variant, and on what succeeded in an earlier batch."""

    def __init__(self, graph: Graph, ways: list[str]) -> None:
        self._edges = graph.edges
        self._ways = ways
        self._left_out = graph.left_out
        self._needed = {position for needed in graph.edges.values() for position in needed}
        self._ids = {
            (position, way): new_id()
            for position in self._needed | graph.edges.keys()
            for way in ways
        } | graph.left_out

    def columns(self, position: int, way: str) -> tuple[Any, ...]:
        """The first of ``OWN_COLUMNS``."""
        waits = any((each, way) not in self._left_out for each in self._edges.get(position, ()))
        own_id = self._ids.get((position, way)) or new_id()
        return own_id, position, int(waits), position in self._needed

    def pairs(self) -> Iterator[Dependency]:
        """The dependencies of what was not left out."""
        for position, all_needed in self._edges.items():
            for way in self._ways:
                if (position, way) not in self._left_out:
                    for needed in all_needed:
                        yield Dependency(
                            task_id=self._ids[position, way],
                            predecessor_id=self._ids[needed, way],
                        )


OWN_COLUMNS = (
    "id", "position", "unmet_dependencies", "has_dependents",
    "custom_id", "variant", "payload", "needs", "timeout", "replay_safe", "priority",
    "priority_from", "lane",
)  # fmt: skip


def _spooled(line: str) -> tuple[int, str, list[Any]]:
    position, name, variant, *rest = json.loads(line)
    return position, variant, [name, *rest]


def _own(batch: Batch, plan: Plan, place: Place, spooled: list[Any]) -> tuple[Any, ...]:
    """What an item brings, from its ``custom_id`` on in the order of ``OWN_COLUMNS``."""
    name, priority, timeout, payload, needs, replay_safe = spooled
    source = PriorityFrom.ITEM
    if priority is None:
        source = PriorityFrom.QUEUE if batch.priority is None else PriorityFrom.BATCH
        priority = place.queue.priority if batch.priority is None else batch.priority
    lane = lane_of(priority, place.number)
    timeout = timeout or plan.timeout
    return name, place.variant, payload, needs, timeout, replay_safe, priority, source, lane


def _pattern(batch: Batch, submission: Submission, plan: Plan) -> Task:
    """A task with all that the tasks of the batch have in common."""
    return Task(
        batch=batch,
        kind=plan.kind.name,
        max_attempts=submission.max_attempts,
        run_after=_in_the_future(submission.run_at),
    )


def _in_the_future(moment: datetime | None) -> datetime | None:
    return moment if moment is not None and moment > timezone.now() else None

"""What is wrong with a submission: all of it is looked at before the first row is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from agents.contract import PayloadError
from batches import registry, resuming, variants
from batches.graph import Graph
from batches.lanes import HIGHEST, LOWEST
from batches.models import Batch, Queue, Workspace
from batches.needs import Models, Row, Servers, models_of
from batches.states import BackendName, OnFailure
from batches.submission import FieldError, InvalidSubmission, Item, Submission, Variant

MOST_ERRORS = 100
MAX_ATTEMPTS = 100
MOST_PARALLEL = 1_000_000
MOST_ITEMS = 100_000
"""Of a batch, each counted once for each variant."""
MOST_LINKS = 500_000
"""Of all ``depends_on`` of a batch: they are held in memory until they are inserted."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The batch-level part of a submission, resolved."""

    kind: registry.Kind
    backend: BackendName
    queue: Queue
    queues: dict[str, Queue]
    """Of each way to run the items, by its name."""
    workspace: Workspace | None
    after: list[Batch]
    timeout: int
    succeeded: resuming.Succeeded
    """What is left out, because it succeeded in the resumed batch."""


class Errors:
    """Errors found so far; stops the search once there are more than anybody reads."""

    def __init__(self) -> None:
        self.found: list[FieldError] = []

    def add(self, field: str, message: str) -> None:
        error = FieldError(field, message)
        if error in self.found:
            return  # of an option, which is read with every item
        self.found.append(error)
        if len(self.found) >= MOST_ERRORS:
            self.raise_any()

    def raise_any(self) -> None:
        if self.found:
            raise InvalidSubmission(self.found)


def vet_batch(owner: User, submission: Submission, errors: Errors) -> Plan:
    try:
        kind = registry.kind(submission.kind)
    except registry.UnknownKind as error:
        raise InvalidSubmission([FieldError("kind", str(error))]) from None
    backend = _backend(submission.backend, errors)
    if submission.on_failure not in OnFailure.values:
        errors.add("on_failure", f"Must be one of {', '.join(OnFailure.values)}.")
    _check_range(errors, "priority", submission.priority, LOWEST, HIGHEST)
    _check_range(errors, "max_attempts", submission.max_attempts, 1, MAX_ATTEMPTS)
    _check_range(errors, "timeout", submission.timeout, 1, settings.MAX_TIMEOUT_SECONDS)
    _check_range(errors, "parallel", submission.parallel, 1, MOST_PARALLEL)
    if len(submission.name) > 200:
        errors.add("name", "Must be 200 characters at most.")
    if submission.deadline is not None and submission.deadline <= timezone.now():
        errors.add("deadline", "Is in the past.")
    if submission.run_at and submission.deadline and submission.run_at >= submission.deadline:
        errors.add("run_at", "Must be before the deadline.")
    for fault in variants.faults(submission):
        errors.add(fault.field, fault.message)
    queue = _queue(submission.queue or kind.queue, "queue", errors)
    queues = {
        way.name: queue if way.queue is None else _queue(way.queue, f"variants[{n}].queue", errors)
        for n, way in enumerate(submission.ways)
    }
    workspace = _workspace(owner, submission.workspace, errors)
    return Plan(
        kind=kind,
        backend=backend,
        queue=queue,
        queues=queues,
        workspace=workspace,
        after=_predecessors(owner, submission.after, errors),
        timeout=submission.timeout or settings.DEFAULT_TIMEOUT_SECONDS,
        succeeded=_succeeded(owner, submission, workspace, errors),
    )


def _succeeded(
    owner: User, submission: Submission, workspace: Workspace | None, errors: Errors
) -> resuming.Succeeded:
    try:
        return resuming.succeeded(owner, submission, workspace.pk if workspace else None)
    except InvalidSubmission as refused:
        for error in refused.errors:
            errors.add(error.field, error.message)
        return {}


def _backend(wanted: str, errors: Errors) -> BackendName:
    """``auto`` is Celery where there is a broker."""
    usual = BackendName.CELERY if settings.CELERY_BROKER_URL else BackendName.DATABASE
    if wanted == "auto":
        return usual
    if wanted == BackendName.CELERY and not settings.CELERY_BROKER_URL:
        errors.add("backend", "Celery needs a broker: set CELERY_BROKER_URL, or use 'database'.")
    elif wanted not in BackendName.values:
        errors.add("backend", f"{wanted!r} is not one of auto, {', '.join(BackendName.values)}.")
    else:
        return BackendName(wanted)
    return usual


def _queue(name: str, field: str, errors: Errors) -> Queue:
    if (queue := Queue.objects.filter(pk=name).first()) is not None:
        return queue
    known = ", ".join(Queue.objects.order_by("pk").values_list("pk", flat=True))
    errors.add(field, f"{name!r} is not one of {known}.")
    return Queue(name=name)


def _check_range(errors: Errors, field: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        errors.add(field, f"Must be between {least} and {most}.")


def _workspace(owner: User, name: str | None, errors: Errors) -> Workspace | None:
    if name is None:
        return None
    visible = Workspace.objects.visible_to(owner)
    workspace: Workspace | None = visible.filter(name=name).first()
    if workspace is None:
        known = ", ".join(visible.values_list("name", flat=True)[:20]) or "none yet"
        errors.add("workspace", f"There is no workspace {name!r} that you may use ({known}).")
    return workspace


def _predecessors(owner: User, ids: tuple[UUID, ...], errors: Errors) -> list[Batch]:
    if not ids:
        return []
    found = {batch.pk: batch for batch in Batch.objects.visible_to(owner).filter(pk__in=ids)}
    for index, batch_id in enumerate(ids):
        if batch_id not in found:
            errors.add(f"after[{index}]", f"There is no batch {batch_id} that you may see.")
    return list(found.values())


def vet_items(
    owner: User, submission: Submission, plan: Plan, spool: IO[str], errors: Errors
) -> Graph:
    """Validate each item, one at a time, and spool what is to be stored of it."""
    graph = Graph()
    names = graph.names
    wanted: dict[int, tuple[str, ...]] = {}
    links = 0
    servers, models = Servers(owner, submission.workspace), Models()
    if plan.kind.processor.needs_workspace and submission.workspace is None:
        errors.add("workspace", "This kind of task works in a workspace: name one.")
    for position, item in _bounded(submission, plan.kind.items):
        at = f"{plan.kind.items}[{position}]"
        name = item.id if item.id is not None else str(position)
        if name in names:
            errors.add(f"{at}.id", f"{name!r} is also the id of item {names[name]}.")
        names[name] = position
        _vet_fields(name, item, at, errors)
        if item.depends_on:
            links += len(item.depends_on) * len(submission.ways)
            _check_links(links, at, errors)
            wanted[position] = item.depends_on
        for way in submission.ways:
            if (done := plan.succeeded.get((name, way.name))) is not None:
                graph.left_out[position, way.name] = done
            elif row := _validate_payload(plan, submission, way, item, at, errors):
                place = partial(_place, submission, way, item, at)
                graph.total += 1
                servers.check(row[1], at, errors)
                models.check(row, place, errors)
                graph.demands.add(models_of(row[1]))
                own = [position, name, way.name, item.priority, item.timeout]
                spool.write(json.dumps([*own, *row]) + "\n")
    if not graph.total:
        _say_why_none(graph, plan.kind.items, errors)
    for fault in graph.link(wanted, plan.kind.items):
        errors.add(fault.field, fault.message)
    graph.demands.discard(())
    return graph


def _check_links(links: int, at: str, errors: Errors) -> None:
    if links > MOST_LINKS:
        errors.add(f"{at}.depends_on", f"With this one the batch has more than {MOST_LINKS} links.")
        errors.raise_any()


def _say_why_none(graph: Graph, items: str, errors: Errors) -> None:
    if not graph.names:
        errors.add(items, "Must hold at least one item.")
    elif graph.left_out:
        errors.add("resume", "Every item succeeded there already.")


def _vet_fields(name: str, item: Item, at: str, errors: Errors) -> None:
    if not 1 <= len(name) <= 128:
        errors.add(f"{at}.id", "Must have 1 to 128 characters.")
    _check_range(errors, f"{at}.priority", item.priority, LOWEST, HIGHEST)
    _check_range(errors, f"{at}.timeout", item.timeout, 1, settings.MAX_TIMEOUT_SECONDS)


def _bounded(submission: Submission, field: str) -> Iterator[tuple[int, Item]]:
    ways = len(submission.ways)
    for position, item in enumerate(submission.items):
        if (position + 1) * ways > MOST_ITEMS:
            each = f" with {ways} variants" if ways > 1 else ""
            message = f"Must hold {MOST_ITEMS // ways:,} items at most{each}: submit the rest "
            raise InvalidSubmission([FieldError(field, f"{message}as another batch.")])
        yield position, item


def _validate_payload(
    plan: Plan, submission: Submission, way: Variant, item: Item, at: str, errors: Errors
) -> Row | None:
    processor = plan.kind.processor
    options = {**submission.options, **way.options}
    try:
        payload = processor.validate({**options, **item.payload}, settings.PROCESSOR_SETTINGS)
    except PayloadError as error:
        whole = not options  # without any, what is missing is missing in the item
        place = f"{at}.{error.field}" if whole else _place(submission, way, item, at, error.field)
        errors.add(place, error.message)
        return None
    return payload, processor.resources(payload), processor.replay_safe(payload)


def _place(submission: Submission, way: Variant, item: Item, at: str, field: str) -> str:
    """Where a field was given: in the item, in the variant, or for all of them."""
    if variants.top(field) in item.payload:
        return f"{at}.{field}"
    return variants.place_of(submission, way, field)

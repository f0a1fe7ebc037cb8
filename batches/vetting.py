"""What is wrong with a submission: all of it is looked at before the first row is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import IO, TypeAlias
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from agents.contract import (
    BUILT_IN_SERVER,
    JSON,
    MODEL_RESOURCE,
    SERVER_RESOURCE,
    PayloadError,
)
from batches import registry
from batches.lanes import HIGHEST, LOWEST
from batches.models import Batch, McpServer, ModelProfile, Queue, Workspace
from batches.states import BackendName, OnFailure
from batches.submission import FieldError, InvalidSubmission, Item, Submission

MOST_ERRORS = 100
MAX_ATTEMPTS = 100
MOST_PARALLEL = 1_000_000
MOST_ITEMS = 100_000
MOST_LINKS = 500_000
"""Of all ``depends_on`` of a batch: they are held in memory until they are inserted."""


Row: TypeAlias = tuple[JSON, list[str], bool]
"""Of an item: its validated payload, the resources it needs, and whether it is replay-safe."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The batch-level part of a submission, resolved."""

    kind: registry.Kind
    backend: BackendName
    queue: Queue
    workspace: Workspace | None
    after: list[Batch]
    timeout: int


class Servers:
    """The MCP servers that a person may name; looked up once, when the first item names one."""

    def __init__(self, owner: User, workspace: str | None) -> None:
        self._owner = owner
        self._workspace = workspace

    @cached_property
    def _known(self) -> set[str]:
        visible = McpServer.objects.visible_to(self._owner).filter(enabled=True)
        return {BUILT_IN_SERVER, *visible.values_list("name", flat=True)}

    def check(self, needs: Iterable[str], at: str, errors: Errors) -> None:
        """Refuse an item that needs a server which its owner may not use, or without its folder."""
        for need in needs:
            name = need.removeprefix(SERVER_RESOURCE)
            if name == need:
                continue
            if name not in self._known:
                known = ", ".join(sorted(self._known))
                errors.add(
                    f"{at}.server", f"There is no server {name!r} that you may use ({known})."
                )
            elif name == BUILT_IN_SERVER and self._workspace is None:
                errors.add(
                    "workspace", f"The server {BUILT_IN_SERVER} works in a workspace: name one."
                )


class Models:
    """The models whose use is switched off; looked up once, when the first item names a model."""

    @cached_property
    def _disabled(self) -> set[str]:
        return set(ModelProfile.objects.filter(enabled=False).values_list("name", flat=True))

    def check(self, row: Row, item: Item, at: str, errors: Errors) -> None:
        """Refuse an item that needs one of them."""
        payload, needs, _ = row
        for name in models_of(needs):
            if (model := name.removeprefix(MODEL_RESOURCE)) in self._disabled:
                field = next(field for field, value in payload.items() if _names(value, model))
                where = f"{at}.{field}" if field in item.payload else field
                errors.add(where, f"The model {model} is disabled.")


def _names(value: object, model: str) -> bool:
    return value == model or (isinstance(value, list) and model in value)


def models_of(needs: Iterable[str]) -> tuple[str, ...]:
    """Those of the resources that are models, in the order of their names."""
    return tuple(sorted(need for need in needs if need.startswith(MODEL_RESOURCE)))


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
    name = submission.queue or kind.queue
    queue = Queue.objects.filter(pk=name).first()
    if queue is None:
        known = ", ".join(Queue.objects.order_by("pk").values_list("pk", flat=True))
        errors.add("queue", f"{name!r} is not one of {known}.")
        queue = Queue(name=name)
    return Plan(
        kind=kind,
        backend=backend,
        queue=queue,
        workspace=_workspace(owner, submission.workspace, errors),
        after=_predecessors(owner, submission.after, errors),
        timeout=submission.timeout or settings.DEFAULT_TIMEOUT_SECONDS,
    )


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
    found = {batch.pk: batch for batch in Batch.objects.visible_to(owner).filter(pk__in=ids)}
    for index, batch_id in enumerate(ids):
        if batch_id not in found:
            errors.add(f"after[{index}]", f"There is no batch {batch_id} that you may see.")
    return list(found.values())


@dataclass(slots=True)
class Graph:
    """Names in the order of positions, and who depends on whom, as positions."""

    names: dict[str, int]
    edges: dict[int, list[int]]
    demands: set[tuple[str, ...]]
    """Each set of models that one item needs."""


def vet_items(
    owner: User, submission: Submission, plan: Plan, spool: IO[str], errors: Errors
) -> Graph:
    """Validate each item, one at a time, and spool what is to be stored of it."""
    names: dict[str, int] = {}
    wanted: dict[int, tuple[str, ...]] = {}
    links = 0
    servers, models = Servers(owner, submission.workspace), Models()
    demands: set[tuple[str, ...]] = set()
    if plan.kind.processor.needs_workspace and submission.workspace is None:
        errors.add("workspace", "This kind of task works in a workspace: name one.")
    for position, item in _bounded(submission.items, plan.kind.items):
        at = f"{plan.kind.items}[{position}]"
        name = item.id if item.id is not None else str(position)
        if name in names:
            errors.add(f"{at}.id", f"{name!r} is also the id of item {names[name]}.")
        names[name] = position
        if not 1 <= len(name) <= 128:
            errors.add(f"{at}.id", "Must have 1 to 128 characters.")
        _check_range(errors, f"{at}.priority", item.priority, LOWEST, HIGHEST)
        _check_range(errors, f"{at}.timeout", item.timeout, 1, settings.MAX_TIMEOUT_SECONDS)
        if item.depends_on:
            links += len(item.depends_on)
            if links > MOST_LINKS:
                errors.add(
                    f"{at}.depends_on", f"With this one the batch has more than {MOST_LINKS} links."
                )
                errors.raise_any()
            wanted[position] = item.depends_on
        if (row := _validate_payload(plan, submission.options, item, at, errors)) is not None:
            servers.check(row[1], at, errors)
            models.check(row, item, at, errors)
            demands.add(models_of(row[1]))
            spool.write(json.dumps([name, item.priority, item.timeout, *row]) + "\n")
    if not names:
        errors.add(plan.kind.items, "Must hold at least one item.")
    edges = _edges(plan, names, wanted, errors)
    if cycle := _cycle(edges):
        by_position = {position: name for name, position in names.items()}
        path = " → ".join(by_position[position] for position in cycle)
        errors.add(f"{plan.kind.items}[{cycle[0]}].depends_on", f"Goes in a circle: {path}.")
    return Graph(names, edges, demands - {()})


def _bounded(items: Iterable[Item], field: str) -> Iterator[tuple[int, Item]]:
    for position, item in enumerate(items):
        if position >= MOST_ITEMS:
            message = f"Must hold {MOST_ITEMS:,} items at most: submit the rest as another batch."
            raise InvalidSubmission([FieldError(field, message)])
        yield position, item


def _validate_payload(plan: Plan, options: JSON, item: Item, at: str, errors: Errors) -> Row | None:
    processor = plan.kind.processor
    try:
        payload = processor.validate({**options, **item.payload}, settings.PROCESSOR_SETTINGS)
    except PayloadError as error:
        own = error.field.split(".")[0].split("[")[0] in item.payload or not options
        errors.add(f"{at}.{error.field}" if own else error.field, error.message)
        return None
    return payload, processor.resources(payload), processor.replay_safe(payload)


def _edges(
    plan: Plan, names: dict[str, int], wanted: dict[int, tuple[str, ...]], errors: Errors
) -> dict[int, list[int]]:
    edges: dict[int, list[int]] = {}
    for position, predecessors in wanted.items():
        for index, name in enumerate(predecessors):
            if name not in names:
                errors.add(
                    f"{plan.kind.items}[{position}].depends_on[{index}]",
                    f"No item of this batch has the id {name!r}.",
                )
        edges[position] = sorted({names[name] for name in predecessors if name in names})
    return edges


def _cycle(edges: dict[int, list[int]]) -> list[int]:
    """The positions of one cycle from its lowest on, first and last the same; empty without one."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        cycle: list[int] = error.args[1][1:]
        first = cycle.index(min(cycle))
        return [*cycle[first:], *cycle[: first + 1]]
    return []

"""The figures of each variant, read once over all of its tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import F

from agents.contract import JSON
from batches import variants
from batches.comparison.interval import median_and_p90, wilson
from batches.exports import Selection
from batches.models import Batch, Decision
from batches.review import IN_PLACE
from batches.states import DecisionVerb, Failure, TaskState

PAGE = 1000
JUDGED = frozenset({Failure.REJECTED, Failure.TIMEOUT, Failure.LIMIT})
"""Failures that say something of the variant. The others are the installation's (``error``,
``lost``) or another task's (``dependency``): such a task is not counted for its pass rate."""
AGENT_FIELDS = ("result__loops", "result__usage", "result__applied")


@dataclass(frozen=True, slots=True)
class Column:
    """One variant of one batch."""

    batch: Batch
    variant: str

    @property
    def label(self) -> str:
        return self.variant or str(self.batch)


def columns(batches: Iterable[Batch]) -> list[Column]:
    """Of each batch its variants; a batch without any is one column."""
    return [Column(batch, name) for batch in batches for name in variants.names(batch)]


@dataclass(slots=True)
class Figures:
    """What was counted and measured of a variant so far. Times are of the last attempt."""

    column: Column
    states: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    passed: int = 0
    judged: int = 0
    seconds: list[float] = field(default_factory=list)
    loops: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)
    """Requests to models of each task."""
    tokens_in: int = 0
    tokens_out: int = 0
    applied: int = 0

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def options(self) -> JSON:
        """The options that the variant has of its own."""
        for variant in self.column.batch.variants:
            if variant["name"] == self.column.variant:
                return {name: value for name, value in variant.items() if name != "name"}
        return {}

    @property
    def interval(self) -> tuple[float, float] | None:
        return wilson(self.passed, self.judged)

    @property
    def pass_rate(self) -> float | None:
        return self.passed / self.judged if self.judged else None

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one task."""
        self.states[row["state"]] += 1
        if row["failure"]:
            self.failures[row["failure"]] += 1
        verdict = passed(row)
        if verdict is None:
            return
        self.judged += 1
        self.passed += verdict
        if row["started_at"] and row["finished_at"]:
            self.seconds.append((row["finished_at"] - row["started_at"]).total_seconds())
        if isinstance(loops := row.get("result__loops"), int):
            self.loops.append(loops)
        if used := usage(row):
            self.turns.append(used.turns)
            self.tokens_in += used.tokens_in
            self.tokens_out += used.tokens_out
        self.applied += row.get("result__applied") in IN_PLACE

    def as_json(self) -> JSON:
        interval = self.interval
        return {
            "batch": str(self.column.batch.pk),
            "variant": self.column.variant,
            "options": self.options,
            "total": self.total,
            "states": {state.value: self.states[state] for state in TaskState},
            "failures": dict(self.failures),
            "judged": self.judged,
            "passed": self.passed,
            "pass_rate": rounded(self.pass_rate),
            "interval": interval and [rounded(bound) for bound in interval],
            "seconds": _spread(self.seconds),
            "loops": _spread(self.loops),
            "turns": _spread(self.turns),
            "tokens": {"input": self.tokens_in, "output": self.tokens_out},
            "applied": self.applied,
        }


def passed(row: Mapping[str, Any]) -> bool | None:
    """Whether a task's answer was yes; None while there is none, or where it says nothing."""
    if row["state"] == TaskState.SUCCEEDED:
        return True
    # A deadline fails as ``timeout`` also what never ran.
    return False if row["failure"] in JUDGED and row["started_at"] else None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a task asked of its models, all taken together."""

    turns: int
    tokens_in: int
    tokens_out: int


def usage(row: Mapping[str, Any]) -> Usage | None:
    """Of a row with ``AGENT_FIELDS``; None where its result tells nothing of it."""
    told = row.get("result__usage")
    if not isinstance(told, dict):
        return None
    models = [each for each in told.values() if isinstance(each, dict)]
    return Usage(
        *(
            sum(each.get(name, 0) for each in models)
            for name in ("requests", "input_tokens", "output_tokens")
        )
    )


def figures(compared: list[Column]) -> list[Figures]:
    """The figures of each column, in their order."""
    found = {(column.batch.pk, column.variant): Figures(column) for column in compared}
    for batch in {column.batch.pk: column.batch for column in compared}.values():
        for row in _rows(batch):
            if one := found.get((batch.pk, row["variant"])):
                one.add(row)
        for variant in _applied_later(batch):
            if one := found.get((batch.pk, variant)):
                one.applied += 1
    return list(found.values())


def _rows(batch: Batch) -> Iterator[dict[str, Any]]:
    more = AGENT_FIELDS if batch.kind == "agent" else ()
    for page in Selection(batch).pages(
        PAGE, "state", "failure", "started_at", "finished_at", *more
    ):
        yield from page


def _applied_later(batch: Batch) -> Iterable[str]:
    """The variant of each task whose patch a person applied, once that was done."""
    applied = Decision.objects.filter(
        task__batch=batch,
        attempt=F("task__attempt"),
        verb=DecisionVerb.APPLY,
        applying__state=TaskState.SUCCEEDED,
    )
    return applied.values_list("task__variant", flat=True).order_by()


def _spread(values: list[float]) -> JSON | None:
    found = median_and_p90(values)
    return found and {"median": rounded(found[0]), "p90": rounded(found[1])}


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

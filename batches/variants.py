"""The variants of a submission: the same items in several ways, to be compared."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from agents.contract import JSON
from batches.submission import FieldError, Submission, Variant

MOST_VARIANTS = 8
LONGEST_NAME = 64


def faults(submission: Submission) -> Iterable[FieldError]:
    """What is wrong with the variants, but for their options, which are read with every item."""
    if len(submission.variants) > MOST_VARIANTS:
        yield FieldError("variants", f"Must hold {MOST_VARIANTS} variants at most.")
    taken: dict[str, int] = {}
    for index, variant in enumerate(submission.variants):
        if not 1 <= len(variant.name) <= LONGEST_NAME:
            yield FieldError(
                f"variants[{index}].name", f"Must have 1 to {LONGEST_NAME} characters."
            )
        elif variant.name in taken:
            first = taken[variant.name]
            yield FieldError(
                f"variants[{index}].name", f"{variant.name!r} is also the name of variant {first}."
            )
        taken.setdefault(variant.name, index)


def top(field: str) -> str:
    """The option that a dotted field is in."""
    return re.split(r"[.\[]", field, maxsplit=1)[0]


def place_of(submission: Submission, variant: Variant, field: str) -> str:
    """Where an option that is no item's was given: in a variant, or for all of them."""
    if top(field) in variant.options:
        return f"variants[{submission.variants.index(variant)}].{field}"
    return field


def stored(submission: Submission) -> list[JSON]:
    """As a batch keeps them."""
    return [
        {**variant.options, "name": variant.name}
        | ({} if variant.queue is None else {"queue": variant.queue})
        for variant in submission.variants
    ]


def queue_of(batch: Any, name: str) -> str:
    """The queue of a variant's tasks."""
    own = {variant["name"]: variant.get("queue") for variant in batch.variants}
    queue: str = own.get(name) or batch.queue_id
    return queue


def queues(batch: Any) -> list[str]:
    """Those that its tasks are in."""
    return list(dict.fromkeys(queue_of(batch, name) for name in names(batch)))


def names(batch: Any) -> list[str]:
    """Of a batch's variants in their order; the unnamed one where it has none."""
    return [variant["name"] for variant in batch.variants] or [""]

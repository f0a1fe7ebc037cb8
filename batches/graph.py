"""The items of a submission by name and place, and who depends on whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from uuid import UUID

from batches.submission import FieldError


@dataclass(slots=True)
class Graph:
    names: dict[str, int] = field(default_factory=dict)
    """In the order of positions."""
    edges: dict[int, list[int]] = field(default_factory=dict)
    """Position → the positions that it depends on."""
    left_out: dict[tuple[int, str], UUID] = field(default_factory=dict)
    """Position and variant of what is not run → the task that did it in an earlier batch."""
    total: int = 0
    """Of the tasks that are run."""
    demands: set[tuple[str, ...]] = field(default_factory=set)
    """Each set of models that one of them needs."""

    def link(self, wanted: Mapping[int, tuple[str, ...]], items: str) -> Iterator[FieldError]:
        """Fill in the edges, once all names are known; gives what is wrong with them."""
        for position, predecessors in wanted.items():
            for index, name in enumerate(predecessors):
                if name not in self.names:
                    yield FieldError(
                        f"{items}[{position}].depends_on[{index}]",
                        f"No item of this batch has the id {name!r}.",
                    )
            known = {self.names[name] for name in predecessors if name in self.names}
            self.edges[position] = sorted(known)
        if cycle := _cycle(self.edges):
            by_position = {position: name for name, position in self.names.items()}
            path = " → ".join(by_position[position] for position in cycle)
            yield FieldError(f"{items}[{cycle[0]}].depends_on", f"Goes in a circle: {path}.")


def _cycle(edges: dict[int, list[int]]) -> list[int]:
    """The positions of one cycle from its lowest on, first and last the same; empty without one."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        cycle: list[int] = error.args[1][1:]
        first = cycle.index(min(cycle))
        return [*cycle[first:], *cycle[: first + 1]]
    return []

"""Shows the variants of a batch side by side, from the same figures as the REST API."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterable
from io import StringIO
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from batches.comparison.figures import Column, Figures, columns, figures
from batches.comparison.outcomes import items, outcomes
from batches.management.arguments import beginning_of_id
from batches.management.asking import chosen
from batches.management.base import ConsoleCommand
from batches.models import Batch

PAGE = 500
WIDTH = 160
"""Of a table that goes to a file, where no terminal says how wide it is."""
MARKS = {True: "passed", False: "failed", None: "-"}


class Command(ConsoleCommand):
    help = (
        "Compare the variants of a batch, or two batches: how many tasks passed, with the 95 % "
        "interval of that share, how long they took, and what they asked of their models."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("batch", type=beginning_of_id, help="its id, or the beginning of it")
        parser.add_argument("other", nargs="?", type=beginning_of_id, help="another batch")
        parser.add_argument(
            "--items", action="store_true", help="also say which variants passed each item"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        asked = [options["batch"], *filter(None, [options["other"]])]
        batches = [chosen(Batch.objects.sealed(), beginning) for beginning in asked]
        if len({batch.kind for batch in batches}) > 1:
            raise CommandError("Batches of two kinds cannot be compared.")
        compared = columns(batches)
        found = figures(compared)
        if options["json"]:
            told = {"variants": [each.as_json() for each in found]}
            if options["items"]:
                told["items"] = list(rows(batches[0], compared))
            self.stdout.write(json.dumps(told, default=str))
            return
        self._draw(table(found))
        if options["items"]:
            self._draw(item_table(compared, rows(batches[0], compared)))

    def _draw(self, drawn: Table) -> None:
        console = Console(file=StringIO(), width=None if self.stdout.isatty() else WIDTH)
        with console.capture() as text:
            console.print(drawn)
        self.stdout.write(text.get(), ending="")


def rows(batch: Batch, compared: list[Column]) -> Iterable[dict[str, Any]]:
    """The outcomes of all items, read page by page."""
    ordered, after = items(batch).order_by("position"), -1
    while page := list(ordered.filter(position__gt=after)[:PAGE]):
        yield from outcomes(compared, page)
        after = page[-1]["position"]


def table(found: list[Figures]) -> Table:
    drawn = Table(box=None, pad_edge=False)
    drawn.add_column("Variant")
    for name in ("Passed", "Rate", "95 %", "Median", "p90", "Turns", "Tokens in", "out", "Applied"):
        drawn.add_column(name, justify="right")
    for each in found:
        drawn.add_row(Text(each.column.label), *cells(each))
    return drawn


def cells(each: Figures) -> list[str]:
    """The figures as texts, in the order of the table's columns."""
    told = each.as_json()
    rate, interval = each.pass_rate, each.interval
    seconds, turns = told["seconds"], told["turns"]
    return [
        f"{each.passed} of {each.judged}",
        "-" if rate is None else f"{rate:.0%}",
        "-" if interval is None else f"{interval[0]:.0%} to {interval[1]:.0%}",
        f"{seconds['median']:.1f} s" if seconds else "-",
        f"{seconds['p90']:.1f} s" if seconds else "-",
        f"{turns['median']:g}" if turns else "-",
        f"{each.tokens_in:,}",
        f"{each.tokens_out:,}",
        f"{each.applied:,}",
    ]


def item_table(compared: list[Column], found: Iterable[dict[str, Any]]) -> Table:
    drawn = Table(box=None, pad_edge=False)
    drawn.add_column("Item")
    for column in compared:
        drawn.add_column(Text(column.label))
    for item in found:
        marks = [MARKS[task["passed"]] if task else "-" for task in item["tasks"]]
        drawn.add_row(Text(item["custom_id"]), *marks)
    return drawn

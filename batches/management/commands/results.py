"""Writes the results of a batch, by the same generators as the REST API."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from batches.exports import FORMATS, Selection
from batches.management.arguments import beginning_of_id
from batches.management.asking import chosen
from batches.management.base import ConsoleCommand
from batches.models import Batch
from batches.states import TaskState


class Command(ConsoleCommand):
    help = (
        "Write the results of a batch: as JSON Lines or CSV, the findings of a validation batch "
        "as SARIF, those of a test batch as JUnit XML."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("batch", type=beginning_of_id, help="its id, or the beginning of it")
        parser.add_argument("--format", choices=list(FORMATS), default="jsonl", help="jsonl")
        parser.add_argument("--output", metavar="FILE", help="default: standard output")
        parser.add_argument(
            "--state",
            action="append",
            choices=[state.value for state in TaskState],
            help="only tasks in this state; may be given several times",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        batch = chosen(Batch.objects.sealed(), options["batch"])
        states = tuple(options["state"] or ())
        export = FORMATS[options["format"]]
        if options["output"] is None:
            self._print(export(Selection(batch, states)))
            return
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
        ) as bar:
            total = Selection(batch, states).tasks().count()
            shown = bar.add_task(str(batch), total=total)
            text = export(Selection(batch, states, lambda number: bar.advance(shown, number)))
            with written(options["output"]) as file:
                for part in text:
                    file.write(part)

    def _print(self, text: Iterator[str]) -> None:
        try:
            for part in text:
                self.stdout.write(part, ending="")
            self.stdout.flush()
        except BrokenPipeError:
            # The reader has seen enough. What is still buffered must not be tried again at exit.
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            raise SystemExit(1) from None


@contextmanager
def written(name: str) -> Iterator[IO[str]]:
    """A text file that takes the place of ``name`` once it is whole, and else leaves no trace.

    Raises:
        CommandError: it cannot be written.
    """
    target = Path(name).resolve()
    if target.exists() and not target.is_file():
        raise CommandError(f"{name} cannot be written: it is not a file.")
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        try:
            with partial.open("x", encoding="utf-8", newline="") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"{name} cannot be written: {error.strerror}.") from error

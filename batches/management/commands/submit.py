"""Submits a batch from a file, by the same rules as the REST API."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from rest_framework.exceptions import ParseError

from agents.contract import JSON
from batches import operations
from batches.api.parsing import ObjectParser
from batches.api.reading import BY_LINES, understood, understood_by_lines
from batches.management.arguments import beginning_of_id
from batches.management.asking import asker, batch_of, facts
from batches.management.base import ConsoleCommand
from batches.management.following import failures, follow
from batches.states import BatchStatus
from batches.submission import Submission


class Command(ConsoleCommand):
    help = (
        'Submit a batch: FILE is the body of the REST call plus "kind". Prints the batch\'s id. '
        "A FILE that ends in .jsonl or .ndjson has the options on its first line, then an item a "
        "line; or the lines of an OpenAI batch file. "
        "With --wait the exit code is 0 when it completed, else 1."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "file", help="a file of JSON or JSON Lines, or - for JSON on standard input"
        )
        parser.add_argument("--kind", help="the kind of its tasks, where FILE does not say it")
        parser.add_argument("--workspace", metavar="NAME", help="instead of the one FILE names")
        parser.add_argument(
            "--resume",
            metavar="BATCH",
            type=beginning_of_id,
            help="leave out what succeeded in this batch, by the ids of the items",
        )
        parser.add_argument("--wait", action="store_true", help="show progress until it ends")
        parser.add_argument("--user", default="admin", help="whose batch it is (admin)")
        parser.add_argument(
            "--json", action="store_true", help="one JSON object; with --wait, once it ended"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        by = asker(options["user"])
        more: JSON = {}
        if options["workspace"] is not None:
            more["workspace"] = options["workspace"]
        if options["resume"] is not None:
            more["resume"] = str(batch_of(by, options["resume"]).pk)
        with asked(options["file"], options["kind"], more) as wanted:
            batch = operations.submit(by.user, wanted, by=by)
        if batch.left_out and not options["json"]:
            self.stderr.write(f"{batch.left_out:,} left out: done before.")
        if not options["json"]:
            self.stdout.write(str(batch.pk))
            self.stdout.flush()
        status = follow(batch.pk, self.stderr, stderr=True) if options["wait"] else None
        if options["json"]:
            self.stdout.write(json.dumps(facts(batch.pk)))
        if status not in {None, BatchStatus.COMPLETED}:
            for line in failures(batch.pk):
                self.stderr.write(line)
            raise SystemExit(1)


@contextmanager
def asked(file: str, kind_name: str | None, more: JSON) -> Iterator[Submission]:
    """What a file asks for; while the block runs, the items of JSON Lines are read from it.

    ``more`` takes the place of options of the file.

    Raises:
        InvalidSubmission: from the block too, where a line turns out to be wrong.
    """
    if Path(file).suffix not in BY_LINES:
        yield understood(read(file) | more, kind_name)
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(file).open("rb", buffering=0))
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
        yield stack.enter_context(understood_by_lines(stream, kind_name, more))


def read(file: str) -> JSON:
    """The JSON object in a file, or on standard input."""
    try:
        if file == "-":
            return ObjectParser().parse(sys.stdin.buffer)
        with Path(file).open("rb") as stream:
            return ObjectParser().parse(stream)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
    except ParseError as error:
        raise CommandError(f"{file}: {error.detail}") from error

"""Shows a batch's progress until it ends."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from batches.management.arguments import beginning_of_id
from batches.management.asking import chosen, facts
from batches.management.base import ConsoleCommand
from batches.management.following import failures, follow
from batches.models import Batch
from batches.states import BatchStatus


class Command(ConsoleCommand):
    help = "Show a batch's progress until it ends. Exit code 0 when it completed, else 1."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("batch", type=beginning_of_id, help="its id, or the beginning of it")
        parser.add_argument(
            "--json", action="store_true", help="at the end one JSON object; progress on stderr"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        batch = chosen(Batch.objects.sealed(), options["batch"]).pk
        out = self.stderr if options["json"] else self.stdout
        status = follow(batch, out, stderr=options["json"])
        if options["json"]:
            self.stdout.write(json.dumps(facts(batch)))
        if status != BatchStatus.COMPLETED:
            for line in failures(batch):
                out.write(line)
            raise SystemExit(1)

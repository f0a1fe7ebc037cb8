"""What ``up`` does before it starts anything, for installations that start the parts one by one."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from batches.management.arguments import whole_number
from batches.management.base import ConsoleCommand
from batches.management.preparing import address, prepare


class Command(ConsoleCommand):
    help = (
        "Bring the tables and the static files up to date and make the first user, then end. "
        "`up` does the same by itself. Run it once before the web server and workers of a version."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--port",
            type=whole_number(1, 65535),
            default=8000,
            help="where the console will be reached, for the line to try (%(default)s)",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        prepare(self.say, address("127.0.0.1", options["port"]))

    def say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

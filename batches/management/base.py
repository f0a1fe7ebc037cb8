"""What the commands share: a person's mistake ends in one sentence, never in a traceback."""

from __future__ import annotations

import shlex
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, OperationalError, ProgrammingError

from batches.operations import Conflict
from batches.submission import InvalidSubmission


class ConsoleCommand(BaseCommand):
    """A command of the console. ``--help`` leaves out Django's own options, which work too."""

    suppressed_base_arguments = {
        "--version", "--verbosity", "--settings", "--pythonpath", "--traceback", "--no-color",
        "--force-color", "--skip-checks",
    }  # fmt: skip

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.setdefault(
            "epilog", "Besides these, --data-dir DIR: where everything is kept (./data)."
        )
        return super().create_parser(prog_name, subcommand, **kwargs)

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except InvalidSubmission as refused:
            lines = [f"{error.field}: {error.message}" for error in refused.errors]
            raise CommandError("\n".join(lines)) from refused
        except Conflict as conflict:
            raise CommandError(str(conflict)) from conflict
        except DatabaseError as error:
            raise CommandError(explained(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Interrupted.", returncode=130) from None


def typed(command: str) -> str:
    """How a person types a command, on the data that this one works on."""
    if settings.DATA_DIR == settings.BASE_DIR / "data":
        return f"manage.py {command}"
    return f"manage.py {command} --data-dir {shlex.quote(str(settings.DATA_DIR))}"


def explained(error: DatabaseError) -> str:
    """What a person can do about it."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "no such table" in reason or isinstance(error, ProgrammingError):
        return f"The database has no tables yet ({reason}). Start with: {typed('up')}"
    if isinstance(error, OperationalError):
        return f"The database does not answer: {reason}"
    return f"The database refused: {reason}"

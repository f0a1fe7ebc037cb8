"""What a start prepares: tables, static files, and the first user of an empty installation."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from knox.models import AuthToken


class AlreadyRunning(Exception):
    """Another process holds the data directory; the message says which."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Of the first user. Neither secret is stored in a form that could be shown again."""

    username: str
    password: str
    token: str


@contextlib.contextmanager
def only_one(data_dir: Path, address: str) -> Iterator[None]:
    """Hold the data directory against a second start, for as long as this process lives.

    Raises:
        AlreadyRunning: somebody else does, and where.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise AlreadyRunning(f"process {file.read().strip() or 'unknown'}") from error
        file.truncate(0)
        file.write(f"{os.getpid()} on {address}")
        file.flush()
        yield


def running_at(data_dir: Path) -> str | None:
    """The address of the console that runs on the data directory, if any does."""
    try:
        process, _, address = (data_dir / "up.lock").read_text("ascii").partition(" on ")
        with contextlib.suppress(PermissionError):  # it runs, as somebody else
            os.kill(int(process), 0)
    except (OSError, ValueError):
        return None
    return address or None


def migrate() -> int:
    """Bring the tables up to date; return the number of migrations that were applied."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    # Without a plan it still makes permissions and content types that an interruption left out.
    call_command("migrate", verbosity=0, interactive=False)
    return len(plan)


def collect_static() -> None:
    """Put the console's files where the web server finds them, compressed.

    Sources for a browser's debugger and a second page of documentation, which nobody serves, are
    half of the bytes and most of the time to compress them.
    """
    unserved = ["*.map", "redoc"]
    call_command("collectstatic", verbosity=0, interactive=False, ignore_patterns=unserved)


def first_user() -> Credentials | None:
    """An administrator with a password and a token, if nobody is there yet."""
    users = get_user_model()
    with transaction.atomic():
        if users.objects.exists():
            return None
        password = secrets.token_urlsafe(12)
        admin = users.objects.create_superuser(username="admin", password=password)
        _, token = AuthToken.objects.create(user=admin)
    return Credentials(admin.get_username(), password, token)

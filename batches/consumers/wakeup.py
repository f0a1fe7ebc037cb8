"""Hearing of new work at once, without a busy loop."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from django.db import connection

from batches.backends.database import CHANNEL
from batches.consumers.filewatch import FolderWatch
from batches.consumers.forking import closed_at_a_fork, using_database

if TYPE_CHECKING:
    import psycopg

POLL_FIRST, POLL_EVERY = 0.001, 0.004
"""Asking for the data version costs some 3 microseconds, going round once a few dozen."""
LISTEN_AGAIN_AFTER = 2.0
"""Seconds between attempts to get the listening connection back."""
FIRST, SETTLED_AFTER, GIVEN_UP_AFTER = 0.01, 0.05, 1.0
"""Seconds since a write to the database's files: polled faster, at least, and without a commit."""


def _driver() -> Any:
    """Imported where it is needed: on SQLite it would be a fifth of a worker's start."""
    return import_module("psycopg")


class Wakeup:
    """On PostgreSQL a listening connection; on SQLite the file's data version.

    ``PRAGMA data_version`` changes with each commit of another connection and stands still inside
    a transaction, so it is asked on a connection of its own that never begins one. It is asked
    only after something was written to a file beside the database, where the kernel tells of that
    (Linux), else every few milliseconds. The write is told of before the commit that it belongs
    to can be seen, so it is asked for a while then.
    """

    def __init__(self) -> None:
        self._postgres: psycopg.Connection[Any] | None = None
        self._sqlite: sqlite3.Connection | None = None
        self._tried = float("-inf")
        self._folder: FolderWatch | None = None
        self._version = 0
        self._written = float("-inf")
        self._awaited = False
        """Something was written and no commit has been seen since."""

    @property
    def interval(self) -> float:
        """Longest pause in seconds between two calls of ``rang``."""
        if connection.vendor == "postgresql":
            return 1.0
        if self._folder is None:
            return POLL_EVERY
        passed = time.monotonic() - self._written
        if passed > (GIVEN_UP_AFTER if self._awaited else SETTLED_AFTER):
            return 1.0
        return POLL_FIRST if passed < FIRST else POLL_EVERY

    def __enter__(self) -> Self:
        if connection.vendor == "sqlite":
            file = Path(connection.settings_dict["NAME"]).resolve()
            self._folder = FolderWatch.over(file.parent)
            closed_at_a_fork(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for source in (self._postgres, self._sqlite, self._folder):
            if source is not None:
                source.close()

    def fileno(self) -> int | None:
        """What to select for, where there is something."""
        if connection.vendor != "postgresql":
            return None if self._folder is None else self._folder.fileno()
        if (self._postgres is None or self._postgres.closed) and (
            time.monotonic() - self._tried >= LISTEN_AGAIN_AFTER
        ):
            self._tried = time.monotonic()
            with contextlib.suppress(_driver().Error):
                self._listen()
        if self._postgres is None or self._postgres.closed:
            return None
        return self._postgres.fileno()

    def _listen(self) -> None:
        parameters = connection.get_connection_params()
        for name in ("cursor_factory", "context", "prepare_threshold", "server_side_binding"):
            parameters.pop(name, None)
        listening: psycopg.Connection[Any] = _driver().connect(**parameters, autocommit=True)
        self._postgres = listening
        listening.execute(f"LISTEN {CHANNEL}")

    def rang(self) -> bool:
        """Has anybody called since the last time? May say yes without reason, never no."""
        if connection.vendor == "postgresql":
            return self._notified()
        if self._folder is not None and self._folder.changed():
            self._written, self._awaited = time.monotonic(), True
        try:
            version = self._data_version()
        except sqlite3.Error:
            self._sqlite = None
            return True  # whoever looks now will find out what is wrong
        changed, self._version = version != self._version, version
        if changed:
            self._awaited = False
        return bool(changed)

    def _data_version(self) -> int:
        with using_database():
            if self._sqlite is None:
                path = connection.settings_dict["NAME"]
                self._sqlite = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            [version] = self._sqlite.execute("PRAGMA data_version").fetchone()
        return int(version)

    def close_sqlite(self) -> None:
        """Until it is asked again."""
        if self._sqlite is not None:
            self._sqlite.close()
            self._sqlite = None

    def _notified(self) -> bool:
        if self._postgres is None or self._postgres.closed:
            return False
        try:
            return any(True for _ in self._postgres.notifies(timeout=0))
        except _driver().Error:
            self._postgres.close()
            return True

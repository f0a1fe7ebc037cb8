"""Nothing of SQLite is in use in a process at the moment it forks.

SQLite keeps the locks on a file in the memory of the process, beside the kernel's. A child that is
forked while a thread holds one believes for ever that it is held; and one that inherits an open
file believes in a lock that the kernel has not given it ("How To Corrupt An SQLite Database File",
2.6). PostgreSQL's driver knows of forks, but a connection that is broken is broken in the child.
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol
from weakref import WeakSet

from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created


class Closes(Protocol):
    """What has a connection to SQLite beside Django's, and makes a new one when it needs it."""

    def close_sqlite(self) -> None: ...


_in_use = threading.RLock()
_opened: WeakSet[BaseDatabaseWrapper] = WeakSet()
_beside: WeakSet[Closes] = WeakSet()
_prepared = False


def using_database() -> AbstractContextManager[object]:
    """Around each step with the database of a thread whose process forks others.

    A step is short: while it lasts, no child is forked. It may be waited for; SQLite has one
    writer at a time anyhow.
    """
    return _in_use if _prepared else nullcontext()


def closed_at_a_fork(holder: Closes) -> None:
    """Have its connection closed as well."""
    _beside.add(holder)


def mind_forks() -> None:
    """From now on, no child of this process inherits what the main thread is connected to.

    On SQLite, forks also wait for a moment in which no thread uses it.
    """
    global _prepared  # noqa: PLW0603 - of the process, as what it registers
    if connection.vendor != "sqlite":
        os.register_at_fork(before=connections.close_all)
        return
    if _prepared:
        return
    _prepared = True
    _opened.update(connections.all(initialized_only=True))
    connection_created.connect(_remember, weak=False)
    os.register_at_fork(
        before=_close_all, after_in_parent=_in_use.release, after_in_child=_in_use.release
    )


def _remember(connection: BaseDatabaseWrapper, **_: Any) -> None:
    _opened.add(connection)


def _close_all() -> None:
    _in_use.acquire()
    for holder in list(_beside):
        holder.close_sqlite()
    for opened in list(_opened):
        # Of another thread, which does nothing with it now.
        opened.inc_thread_sharing()
        try:
            opened.close()
        finally:
            opened.dec_thread_sharing()

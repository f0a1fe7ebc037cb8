"""Several connections at once, their steps in the order the test decides.

Work runs on a thread with a connection of its own and comes to rest: it has ended, it has reached
the statement it is to stop at, it holds its commit back, or PostgreSQL says that it waits for a
lock of another connection. Only then does the test go on, so nothing depends on time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar
from unittest.mock import patch

import psycopg
from django.db import connection, transaction

from tests.patience import PATIENCE

DEADLINE = PATIENCE
"""Seconds until a test gives up: far longer than any step takes."""

T = TypeVar("T")


class Racer(Generic[T]):
    """Work on a connection of its own."""

    def __init__(
        self, work: Callable[[], T], *, before: str, after: str, holds_commit: bool
    ) -> None:
        self._work, self._before, self._after = work, before, after
        self._holds_commit = holds_commit
        self._pid = 0
        self._stopped, self._go, self._ended = (threading.Event() for _ in range(3))
        self._value: T | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SET lock_timeout = '{int(DEADLINE)}s'")
                cursor.execute("SELECT pg_backend_pid()")
                [self._pid] = cursor.fetchone()
            with connection.execute_wrapper(self._statement), self._copies():
                if self._holds_commit:
                    with transaction.atomic():
                        self._value = self._work()
                        self._stop()
                else:
                    self._value = self._work()
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            self._error = error
        finally:
            connection.close()
            self._ended.set()

    @contextmanager
    def _copies(self) -> Iterator[None]:
        """COPY does not come through Django, which has no word for it."""
        real = psycopg.Cursor.copy

        def copy(cursor: Any, statement: str, *arguments: Any) -> Any:
            mine = threading.current_thread() is self._thread
            if mine and self._before and self._before in statement:
                self._stop()
            return real(cursor, statement, *arguments)

        with patch.object(psycopg.Cursor, "copy", copy):
            yield

    def _statement(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if self._before and self._before in sql:
            self._stop()
        found = execute(sql, params, many, context)
        if self._after and self._after in sql:
            self._stop()
        return found

    def _stop(self) -> None:
        self._stopped.set()
        if not self._go.wait(DEADLINE):
            raise TimeoutError("nobody let the racer go on")

    def rest(self) -> str:
        """Wait until it goes no further by itself; says why: ended, stopped or waiting."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            if self._ended.is_set():
                return "ended"
            if self._stopped.is_set() and not self._go.is_set():
                return "stopped"
            if self._pid and _waits(self._pid):
                return "waiting"
            self._ended.wait(0.002)
        raise TimeoutError("the racer neither ended nor stopped nor waited for a lock")

    def go(self) -> Racer[T]:
        """Go on from where it stopped, or commit; returns it at rest again."""
        self._go.set()
        self.rest()
        return self

    def result(self) -> T:
        """What the work returned, once it has ended; raises what it raised."""
        self._go.set()
        if not self._ended.wait(DEADLINE):
            raise TimeoutError("the racer did not end")
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def abandon(self) -> None:
        """End it whatever it waits for; for the end of a test that failed half-way."""
        self._go.set()
        if not self._ended.wait(2) and self._pid:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s)", [self._pid])
        self._thread.join(DEADLINE)


def _waits(pid: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [pid])
        [waits] = cursor.fetchone()
    return bool(waits)


class Track:
    """Starts racers, and ends those that a failed test left behind."""

    def __init__(self) -> None:
        self._racers: list[Racer[Any]] = []

    def start(
        self, work: Callable[..., T], *args: Any, before: str = "", after: str = ""
    ) -> Racer[T]:
        """The work, at rest: it runs until it ends, waits for a lock, or comes to the first
        statement that contains ``before`` or has run the first that contains ``after``."""
        return self._at_rest(lambda: work(*args), before=before, after=after, holds_commit=False)

    def uncommitted(self, work: Callable[..., T], *args: Any) -> Racer[T]:
        """The work, done but for its commit: others see nothing of it and wait for its locks."""
        return self._at_rest(lambda: work(*args), before="", after="", holds_commit=True)

    def locked(self, model: Any, pk: Any) -> Racer[Any]:
        """A row, locked until the racer goes on."""
        return self.uncommitted(lambda: model.objects.select_for_update().get(pk=pk))

    def _at_rest(self, work: Callable[[], T], **how: Any) -> Racer[T]:
        racer = Racer(work, **how)
        self._racers.append(racer)
        if racer.rest() == "ended" and (how["before"] or how["after"]):
            racer.result()
            raise AssertionError(f"no statement came with {how['before'] or how['after']!r}")
        return racer

    def clear(self) -> None:
        for racer in self._racers:
            racer.abandon()

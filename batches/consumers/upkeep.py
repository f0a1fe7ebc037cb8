"""The thread of a worker that does upkeep, with a database connection of its own.

Whatever may take long and must not hold up the loop that keeps the leases is done here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from types import TracebackType
from typing import Self
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from batches import dispatch, upkeep
from batches.consumers.forking import using_database
from batches.places import openable
from batches.queue.dispatch import take_back

logger = logging.getLogger(__name__)

ASK_EVERY = 5.0
"""Seconds between two looks at the broker."""


class UpkeepThread:
    """Calls ``upkeep.every_second`` until the block ends, and keeps an eye on the workspaces."""

    def __init__(self) -> None:
        self.workspaces = openable()
        """Those this machine can open; replaced as a whole, never changed."""
        self.untidied: deque[tuple[str, UUID]] = deque()
        """Kinds and workspaces of attempts that were lost, to be cleared up in a slot."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._reap_from = 0.0
        self.broker_away = False
        """There is a broker, it does not answer, and CELERY_FALLBACK lets others take its tasks."""
        self._asked = float("-inf")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _ask_broker(self) -> None:
        if time.monotonic() - self._asked > ASK_EVERY:
            self._asked = time.monotonic()
            away = not dispatch.reachable()
            if away != self.broker_away:
                logger.warning("the broker is %s", "away: its tasks are taken" if away else "back")
            self.broker_away = away
        if self.broker_away:
            take_back()

    def _run(self) -> None:
        try:
            while not self._stop.wait(1.0):
                try:
                    self._turn()
                except DatabaseError as error:
                    logger.error("upkeep failed, trying again: %s", error)  # noqa: TRY400
                    with using_database():
                        connection.close()
                    # Workers that were cut off as well get time to renew what they hold.
                    self._reap_from = time.monotonic() + settings.LEASE_SECONDS / 3
                except Exception:
                    # Without upkeep nothing is reaped: the thread must outlive what it stumbles on.
                    logger.exception("upkeep failed, trying again")
                    with using_database():
                        connection.close()
        finally:
            connection.close()

    def _turn(self) -> None:
        with using_database():
            self._every_second()
        deletions = upkeep.deletions()
        while not self._stop.is_set():
            with using_database():
                if next(deletions, self) is self:
                    return
                self._reap()
                upkeep.every_second()

    def _every_second(self) -> None:
        self.workspaces = openable()
        if settings.CELERY_BROKER_URL and settings.CELERY_FALLBACK:
            self._ask_broker()
        if time.monotonic() >= self._reap_from:
            self._reap()
        upkeep.every_second()

    def _reap(self) -> None:
        self.untidied.extend(upkeep.reap_lost())

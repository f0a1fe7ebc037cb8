"""Kombu's Redis transport with a client that is kept as long as its connections.

Kombu builds a client for every command, which takes a worker and a publisher longer than the
command itself.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis


class Channel(redis.Channel):  # type: ignore[misc]
    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's
        """The client that takes a connection of the pool for each command.

        Another after a fork, or after the connections were dropped: the pool is another one then.
        """
        if asynchronous:
            return super()._create_client(asynchronous=True)  # holds a connection of its own
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()
        return self._kept


class Transport(redis.Transport):  # type: ignore[misc]
    Channel = Channel

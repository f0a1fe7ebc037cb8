"""A process that is measured beside another: it obeys lines, and answers each with one of JSON."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from batches.management.processes import Child

PATIENCE = 600.0
"""Seconds after which an answer is given up."""


class Peer:
    """Such a process, seen from outside; it fails with the workers that it needs."""

    def __init__(self, name: str, client: subprocess.Popen[str]) -> None:
        self.workers: list[Child] = []
        assert client.stdin is not None  # noqa: S101 - pipes, both
        assert client.stdout is not None  # noqa: S101
        self.name = name
        self._requests, self._answers = client.stdin, client.stdout
        self.ready = self._answer()

    def ask(self, request: str) -> dict[str, Any]:
        """One answer to one line.

        Raises:
            CommandError: it failed, and has said why on its standard error.
        """
        with contextlib.suppress(BrokenPipeError):
            self._requests.write(f"{request}\n")
            self._requests.flush()
        return self._answer()

    def leave(self) -> None:
        self._requests.close()

    def _answer(self) -> dict[str, Any]:
        gone = time.monotonic() + PATIENCE
        while not select.select([self._answers], [], [], 0.5)[0]:
            if any(worker.ended() is not None for worker in self.workers):
                raise CommandError(f"{self.name}: a worker ended, see the messages above.")
            if time.monotonic() > gone:
                raise CommandError(f"{self.name}: there was no answer in {PATIENCE:.0f} s.")
        line = self._answers.readline()
        if not line:
            raise CommandError(f"{self.name} could not be measured: see the messages above.")
        told: dict[str, Any] = json.loads(line)
        return told


@contextlib.contextmanager
def peer_process(
    name: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> Iterator[Peer]:
    """Python with these arguments, once it has said that it is ready; ended with the block."""
    with subprocess.Popen(  # noqa: S603 - our own programs
        [sys.executable, *arguments],
        env=environment,
        cwd=settings.BASE_DIR,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        peer = Peer(name, process)
        try:
            yield peer
        finally:
            peer.leave()


def answer(**told: Any) -> None:
    """What the process itself says."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()

"""Follow one started process: take its output, hold it to its time, leave nothing of it."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from agents.capture import Capture

CHUNK = 64 * 1024
WATCH_SECONDS = 0.25
GRACE_SECONDS = 5.0
"""How long whoever holds the command may take to kill all of it."""

Watch = Callable[[Capture], None]


@dataclass(frozen=True, slots=True)
class Ended:
    exit_code: int
    timed_out: bool
    killed: bool


class _Follower:
    def __init__(self, child: subprocess.Popen[bytes], captures: tuple[Capture, Capture]) -> None:
        self._child = child
        self._captures = captures
        self._streams = selectors.DefaultSelector()
        for pipe, capture in zip((child.stdout, child.stderr), captures, strict=True):
            if pipe:
                os.set_blocking(pipe.fileno(), False)
                self._streams.register(pipe, selectors.EVENT_READ, capture)

    def take(self, seconds: float) -> bool:
        """Wait for output and take it; False once every stream has ended."""
        for key, _events in self._streams.select(seconds):
            chunk = os.read(key.fd, CHUNK)
            if chunk:
                capture: Capture = key.data
                capture.write(chunk)
            else:
                self._streams.unregister(key.fileobj)
        return bool(self._streams.get_map())

    def follow(self, until: float, watch: Watch) -> str:
        """Why it stopped following: ``ended``, ``time`` or ``output``."""
        watched = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= until:
                return "time"
            if now - watched >= WATCH_SECONDS:
                watched = now
                watch(self._captures[0])
            pause = max(0.0, min(until - now, WATCH_SECONDS))
            if not self.take(pause) and self._gone(pause):
                return "ended"
            if any(capture.overflowed for capture in self._captures):
                return "output"

    def _gone(self, seconds: float) -> bool:
        # A command may close its output and work on.
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self, number: signal.Signals) -> None:
        """End it now, and keep what it had written by then."""
        self._child.send_signal(number)
        until = time.monotonic() + GRACE_SECONDS
        while self.take(0.05) or self._child.poll() is None:
            if time.monotonic() >= until:
                self._child.kill()
                self._child.wait()
                return

    def close(self) -> None:
        self._streams.close()
        for pipe in (self._child.stdout, self._child.stderr):
            if pipe:
                pipe.close()


def follow(
    child: subprocess.Popen[bytes],
    until: float,
    captures: tuple[Capture, Capture],
    watch: Watch,
    kill_with: signal.Signals = signal.SIGKILL,
) -> Ended:
    """Follow a process to its end, to ``until`` (monotonic clock) or to the cap of its output."""
    follower = _Follower(child, captures)
    why = "error"
    try:
        why = follower.follow(until, watch)
    finally:
        if why != "ended":
            follower.kill(kill_with)
        follower.close()
    code = child.returncode
    return Ended(
        exit_code=code if code >= 0 else 128 - code,
        timed_out=why == "time",
        killed=why != "ended",
    )

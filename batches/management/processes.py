"""Service processes of one installation: started, watched, restarted, never left behind.

Each child leads its own process group, so that Ctrl-C reaches only the supervisor, which then
stops them in order. Should the supervisor itself be killed, the kernel tells them (``bound``).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals

from django.core.management.base import CommandError

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
SETTLED_AFTER = 60.0
"""Seconds of life after which a child's earlier deaths are forgotten."""

ENDS_WITHIN = 60.0
"""Seconds for processes that were asked to end, where nothing else is known of them."""

STOP = frozenset({Signals.SIGTERM, Signals.SIGINT, Signals.SIGHUP})


@dataclass(frozen=True, slots=True)
class Program:
    """What to run.

    ``hurry`` is what a second request to stop sends, and ``orphaned`` what the kernel sends when
    the supervisor dies without a word; the first request is always SIGTERM.
    """

    name: str
    command: Sequence[str]
    hurry: Signals
    orphaned: Signals
    descriptors: Sequence[int] = ()
    last: bool = False
    """Asked to stop only once the others have ended."""
    environment: Mapping[str, str] | None = None
    """None: that of this process."""
    mute: bool = False
    """Its standard output is nobody's concern; what is wrong it says on the other one."""


@dataclass(slots=True)
class Child:
    """A program and its current process, if it has one."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    deaths: int = 0
    restart_at: float = 0.0
    stopping: bool = False

    def start(self) -> None:
        program = self.program
        bound = Path(__file__).with_name("bound.py")
        guard = [sys.executable, "-I", "-S", str(bound), str(os.getpid()), str(+program.orphaned)]
        self.process = subprocess.Popen(  # noqa: S603 (our own programs)
            [*guard, *program.command],
            stdin=subprocess.DEVNULL,
            pass_fds=program.descriptors,
            env=program.environment,
            stdout=subprocess.DEVNULL if program.mute else None,
            process_group=0,
        )
        self.started_at = time.monotonic()

    def signal(self, number: Signals) -> None:
        """Signal its first process, which tells the others."""
        if self.process:
            self.process.send_signal(number)

    def kill(self) -> None:
        """Kill what there is of its group."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def ended(self) -> int | None:
        """The return code, once, after its process has ended; its group is gone then too."""
        if self.process is None or (code := self.process.poll()) is None:
            return None
        self.kill()
        self.process = None
        return code

    def ended_by(self, moment: float) -> bool:
        """Wait for its end until a moment of the monotonic clock, then kill it: did it end?"""
        if self.process is None:
            return True
        try:
            self.process.wait(max(0.0, moment - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            self.process.wait()
            return False
        return True

    def delay(self) -> float:
        """Seconds to wait before the next start: doubling while it keeps dying young."""
        if time.monotonic() - self.started_at >= SETTLED_AFTER:
            self.deaths = 0
        self.deaths += 1
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (self.deaths - 1))


@dataclass(slots=True)
class Supervisor:
    """Runs programs until it is asked to stop.

    The first SIGTERM or Ctrl-C asks every child to finish, the second to hurry, the third kills.
    """

    programs: Sequence[Program]
    say: Callable[[str], None]
    ready: Callable[[], bool]
    """Asked several times a second until it is true."""
    when_ready: Callable[[], None]
    children: list[Child] = field(init=False)
    requests: int = 0

    def __post_init__(self) -> None:
        self.children = [Child(program) for program in self.programs]

    def run(self) -> None:
        """Return once every child has ended by request."""
        with caught_signals() as signals:
            waiting = True
            for child in self.children:
                child.start()
            while not (self.requests and not self._alive()):
                for number in received(signals, 0.1 if waiting else self._until_next_start()):
                    if number in STOP:
                        self._stop()
                self._notice_ends()
                self._stop_the_last()
                self._start_due()
                if waiting and not self.requests and self.ready():
                    waiting = False
                    self.when_ready()

    def _alive(self) -> bool:
        return any(child.process for child in self.children)

    def _until_next_start(self) -> float | None:
        due = [child.restart_at for child in self.children if child.process is None]
        return max(0.0, min(due) - time.monotonic()) if due and not self.requests else None

    def _stop(self) -> None:
        self.requests += 1
        for child in self.children:
            if self.requests == 1:
                if not child.program.last:
                    child.signal(Signals.SIGTERM)
            elif self.requests == 2:
                child.signal(child.program.hurry)
            else:
                child.kill()
        self.say(
            {
                1: "Stopping: running tasks finish first. Once more hands them back to the queue.",
                2: "Handing running tasks back to the queue. Once more kills everything.",
            }.get(self.requests, "Killed.")
        )

    def _stop_the_last(self) -> None:
        """Once the others have ended: until then the work that ends can be watched."""
        if self.requests and not any(c.process for c in self.children if not c.program.last):
            for child in self.children:
                if child.program.last and not child.stopping:
                    child.stopping = True
                    child.signal(Signals.SIGTERM)

    def _notice_ends(self) -> None:
        for child in self.children:
            if (code := child.ended()) is None or self.requests:
                continue
            delay = child.delay()
            child.restart_at = time.monotonic() + delay
            self.say(
                f"The {child.program.name} process {how_it_ended(code)}. "
                f"Starting it again in {delay:g} s."
            )

    def _start_due(self) -> None:
        if self.requests:
            return
        for child in self.children:
            if child.process is None and child.restart_at <= time.monotonic():
                child.start()


def how_it_ended(code: int) -> str:
    """A return code of ``subprocess``, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    names = {number.value: number.name for number in Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"


@contextlib.contextmanager
def caught_signals() -> Iterator[socket.socket]:
    """A socket that yields the number of each signal that arrives, as one byte."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        before_descriptor = signal.set_wakeup_fd(writer.fileno())
        # What was ignored stays so: nohup asks for that.
        numbers = [
            number
            for number in (*STOP, Signals.SIGCHLD)
            if signal.getsignal(number) != signal.SIG_IGN
        ]
        before = {number: signal.signal(number, lambda *_: None) for number in numbers}
        try:
            yield reader
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before_descriptor)


def received(signals: socket.socket, timeout: float | None) -> bytes:
    """The signals that arrived, after waiting for one at most ``timeout`` seconds."""
    if select.select([signals], [], [], timeout)[0]:
        return signals.recv(4096)
    return b""


@contextlib.contextmanager
def running(children: list[Child]) -> Iterator[list[Child]]:
    """These processes, started, and ended with the block.

    Raises:
        CommandError: one that was asked to end did not, and was killed.
    """
    try:
        for child in children:
            child.start()
        yield children
    finally:
        for child in children:
            child.signal(Signals.SIGTERM)
        by = time.monotonic() + ENDS_WITHIN
        late = [child.program.name for child in children if not child.ended_by(by)]
        if late:
            raise CommandError(
                f"{' and '.join(late)} did not end within {ENDS_WITHIN:.0f} s of being asked to, "
                "and was killed."
            )

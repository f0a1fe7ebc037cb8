"""A slot seen from its supervisor: the child process, and the leases that wait or run in it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import agents
from agents.contract import JSON, lease_clock
from batches.queue.claim import Claimed

READ_SIZE = 1 << 18
PATIENCE = 1.0
"""Seconds a killed process is waited for."""
HELD_UP_AFTER = 0.1
"""Seconds a job may hold up those that wait behind it in its slot."""
HOME = Path(agents.__file__).resolve().parent.parent


@dataclass(slots=True)
class Job:
    """A claimed task on its way through a slot."""

    claimed: Claimed
    head: str
    """The message to the slot but for the payload, which stays the text that was stored."""
    load: float
    """The share of a slot it takes up: 1 for slow kinds, little for kinds that take no time."""
    long: bool
    expires: float
    """When the lease ends, by ``lease_clock``."""
    waiting_since: float = 0.0
    """Since when no slot has room for it, by the monotonic clock."""
    artefacts: dict[str, tuple[str, Path]] = field(default_factory=dict)
    """Name → media type and path, as announced by the attempt."""
    inputs: str | None = ""
    """JSON text of what the console adds to the payload; empty: nothing; None: not read yet."""

    @property
    def id(self) -> str:
        return str(self.claimed.lease.task_id)

    def message(self) -> bytes:
        left = self.expires - lease_clock()
        inputs = f',"inputs":{self.inputs}' if self.inputs else ""
        return (
            f'{self.head},"lease":{left:.3f}{inputs},"payload":{self.claimed.payload}}}\n'
        ).encode()


class SlotProcess:
    """One child process. It dies with everything it started when it is killed."""

    def __init__(self, number: int, scratch: Path, settings: JSON) -> None:
        self.number = number
        self.scratch = scratch
        self.jobs: deque[Job] = deque()
        """The first is running, the others wait."""
        self.started = self.begun = time.monotonic()
        """When the process was started; when the first job, or the probe, began."""
        self.inbox: deque[JSON] = deque()
        """Messages received and not yet acted on."""
        self.ready = self.dead = False
        self.recalling = False
        self.retiring = False
        self.probing = ""
        self.tidying = False
        scratch.mkdir(parents=True, exist_ok=True)
        self._out = bytearray()
        self._in = bytearray()
        self._connection, child = socket.socketpair()
        self._connection.setblocking(False)
        with child:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agents.slot"],
                stdin=child.fileno(),
                stdout=subprocess.DEVNULL,
                cwd=HOME,
                env=environment(),
                start_new_session=True,
            )
        self.configure(settings)

    def fileno(self) -> int:
        return self._connection.fileno()

    @property
    def load(self) -> float:
        """The share of it that is taken. What is held up takes nothing more: it would only be
        recalled, given to the next slot that is held up, and so on in a busy loop."""
        return 1.0 if self.held_up else sum(job.load for job in self.jobs)

    @property
    def held_up(self) -> bool:
        """Has its first job run for so long that others should not wait behind it?"""
        return bool(self.jobs) and time.monotonic() - self.begun > HELD_UP_AFTER

    @property
    def closed(self) -> bool:
        """Takes no more jobs for now."""
        return self.retiring or self.recalling or bool(self.probing) or self.tidying

    @property
    def idle(self) -> bool:
        return not self.jobs and not self.closed

    def configure(self, settings: JSON) -> None:
        """What processors are told with every job that is given from now on."""
        self.send({"op": "configure", "settings": settings, "scratch": str(self.scratch)})

    def give(self, jobs: list[Job]) -> None:
        if not self.jobs:
            self.begun = time.monotonic()
        self.jobs.extend(jobs)
        self._write(b"".join(job.message() for job in jobs))

    def send(self, message: JSON) -> None:
        self._write(json.dumps(message).encode() + b"\n")

    def _write(self, data: bytes) -> None:
        self._out += data
        self.flush()

    def flush(self) -> None:
        """Write what the socket takes; a slot that does not read must not hold the others up."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while self._out:
                sent = self._connection.send(self._out)
                del self._out[:sent]

    @property
    def has_more_to_write(self) -> bool:
        return bool(self._out)

    def receive(self) -> bool:
        """Take what arrived into the inbox; False when the slot is gone."""
        alive = True
        with contextlib.suppress(BlockingIOError):
            try:
                while chunk := self._connection.recv(READ_SIZE):
                    self._in += chunk
                    if len(chunk) < READ_SIZE:
                        raise BlockingIOError
                alive = False
            except ConnectionResetError:
                alive = False
        *lines, rest = self._in.split(b"\n")
        self._in = bytearray(rest)
        self.inbox.extend(json.loads(line) for line in lines if line)
        return alive

    def finished(self) -> Job:
        """Take the job that ended out of the slot; the next one begins now."""
        self.begun = time.monotonic()
        return self.jobs.popleft()

    def take_back(self, ids: set[str]) -> list[Job]:
        """Take jobs out that the slot returned without having begun them."""
        self.recalling = False
        returned = [job for job in self.jobs if job.id in ids]
        self.jobs = deque(job for job in self.jobs if job.id not in ids)
        return returned

    def recall(self) -> None:
        """Ask for the jobs back that it has not begun."""
        if not self.recalling:
            self.recalling = True
            self.send({"op": "recall"})

    def probe(self, resource: str, processor: str) -> None:
        """Ask whether a resource is back."""
        self.probing = resource
        self.begun = time.monotonic()
        self.send({"op": "probe", "resource": resource, "processor": processor})

    def tidy(self, processor: str, workspace: JSON | None) -> None:
        """Have it clear up what a killed attempt left in a workspace."""
        self.tidying = True
        self.begun = time.monotonic()
        self.send({"op": "tidy", "processor": processor, "workspace": workspace})

    def retire(self) -> None:
        """Let it end by itself once its jobs are done."""
        self.retiring = True
        self.send({"op": "exit"})

    def kill(self) -> str:
        """End the process and all it started; returns how it ended, in words."""
        self.dead = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        try:
            status = self._process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            # It hangs in the kernel, on a file system that does not answer: it dies when that does.
            return "it does not die yet"
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"exit status {status}"

    def close(self) -> None:
        """Forget it. A scratch folder may be large: it is removed aside."""
        self._connection.close()
        threading.Thread(
            target=shutil.rmtree, args=(self.scratch,), kwargs={"ignore_errors": True}, daemon=True
        ).start()


def environment() -> dict[str, str]:
    """What a slot inherits: nothing but where programs are and how text is encoded."""
    kept: dict[str, Any] = {name: os.environ.get(name) for name in ("PATH", "TMPDIR")}
    return {
        **{name: value for name, value in kept.items() if value},
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }

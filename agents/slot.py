"""The child process that runs tasks: ``python -m agents.slot``, started by a supervisor.

Standard input is one end of a socket pair. Lines of JSON come in (configure, run, renewed, recall,
probe, sandbox, tidy, effect, exit) and go out (ready, outcome, log, artefact, effect, recalled,
probe, sandbox, tidied). It may be killed at any moment. It ends itself, and all it started, when
the socket closes while a task runs or when the lease has not been renewed in time: a supervisor
that is gone or stopped can no longer answer for what happens here.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import cast

from agents.attempt import Context, describe, last_lines, workspace_of
from agents.contract import JSON, Processor, StillAway, TidyProcessor, lease_clock


class Wire:
    """The socket to the supervisor; writing is safe from every thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: JSON) -> None:
        data = json.dumps(message, separators=(",", ":"), default=str).encode() + b"\n"
        with self._lock:
            self._connection.sendall(data)

    def lines(self) -> Iterator[JSON]:
        with self._connection.makefile("rb") as source:
            for line in source:
                message: JSON = json.loads(line)
                yield message


class Slot:
    """Runs the jobs it is sent, one after the other, in the main thread.

    The main thread, because a sandbox that dies with its parent dies with the thread that started
    it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.wire = Wire(connection)
        self.settings: JSON = {}
        self.scratch = Path()
        self._waiting: deque[JSON] = deque()
        self._lock = threading.Lock()
        self._arrived = threading.Semaphore(0)
        self._effects: queue.Queue[JSON] = queue.Queue()
        self._expires = float("inf")
        self._busy = threading.Event()
        """A job is running."""
        self._processors: dict[str, Processor] = {}
        self._worn: dict[str, int] = {}

    # -- the reading thread

    def listen(self) -> None:
        try:
            for message in self.wire.lines():
                self._obey(message)
        except OSError:
            pass  # a reset is a closed socket too
        with self._lock:
            busy = self._busy.is_set() or bool(self._waiting)
        if busy:
            end_everything()
        self._enqueue({"op": "exit"})

    def _obey(self, message: JSON) -> None:
        match message["op"]:
            case "run":
                self._enqueue(message)
            case "renewed":
                self._expires = lease_clock() + message["lease"]
            case "recall":
                self._recall()
            case "effect":
                self._effects.put(message)
            case "configure":
                self.settings = message["settings"]
                self.scratch = Path(message["scratch"])
            case _:
                self._enqueue(message)

    def _enqueue(self, message: JSON) -> None:
        with self._lock:
            if message["op"] == "run":
                expires = lease_clock() + message["lease"]
                # A new lease says nothing about those that are here already.
                idle = not self._busy.is_set() and not self._waiting
                self._expires = expires if idle else min(self._expires, expires)
            self._waiting.append(message)
        self._arrived.release()

    def _recall(self) -> None:
        """Give back what was not begun."""
        with self._lock:
            returned = [job["id"] for job in self._waiting if job["op"] == "run"]
            self._waiting = deque(job for job in self._waiting if job["op"] != "run")
        self.wire.send({"event": "recalled", "ids": returned})

    # -- the watching thread

    def watch(self) -> None:
        while True:
            self._busy.wait()
            left = self._expires - lease_clock()
            if left <= 0 and self._busy.is_set():
                end_everything()
            time.sleep(min(max(left, 0.05), 0.5))

    # -- the main thread

    def work(self) -> None:
        while True:
            self._arrived.acquire()
            with self._lock:
                if not self._waiting:
                    continue  # it was recalled
                message = self._waiting.popleft()
                if message["op"] == "run":
                    self._busy.set()
            if message["op"] == "exit":
                return
            if message["op"] == "probe":
                self.wire.send(self._probe(message))
                continue
            if message["op"] == "sandbox":
                self.wire.send(_sandbox())
                continue
            if message["op"] == "tidy":
                self.wire.send(self._tidy(message))
                continue
            self.wire.send(self._run(message))
            self._busy.clear()

    def _probe(self, message: JSON) -> JSON:
        answer: JSON = {"event": "probe", "resource": message["resource"], "reason": ""}
        try:
            processor = self._processor(message["processor"])
            found = processor.probe(message["resource"], self.settings)
            answer["back"] = found is not False
            answer["found"] = found if isinstance(found, dict) else {}
        except StillAway as away:
            answer |= {"back": False, "reason": last_lines(str(away))}
        except Exception:  # noqa: BLE001 - whatever it is, the supervisor must hear of it
            answer |= {"back": False, "reason": last_lines(traceback.format_exc())}
        return answer

    def _tidy(self, message: JSON) -> JSON:
        """Clear up what a killed attempt left behind in its workspace."""
        reason = ""
        try:
            processor = cast("TidyProcessor", self._processor(message["processor"]))
            workspace = workspace_of(message["workspace"])
            if workspace is not None:
                processor.tidy(workspace, self.settings)
        except Exception:  # noqa: BLE001 - the next attempt there clears up as well
            reason = last_lines(traceback.format_exc())
        return {"event": "tidied", "reason": reason}

    def _run(self, job: JSON) -> JSON:
        context = Context(job, self.settings, self.scratch, self.wire.send, self.ask_for_effect)
        began = time.monotonic()
        try:
            outcome = self._processor(job["processor"]).run(job["payload"], context)
            told = describe(outcome, context)
        except Exception:  # noqa: BLE001 - becomes the attempt's error
            told = {
                "outcome": "error",
                "error": last_lines(traceback.format_exc()),
                "interrupted": True,
            }
        told |= {
            "event": "outcome",
            "id": context.task_id,
            "attempt": context.attempt,
            "seconds": time.monotonic() - began,
            "sandbox": context.sandbox,
            "recycle": self._wear(job["processor"]),
        }
        context.close()
        return told

    def _wear(self, path: str) -> bool:
        """Count one more run; has this process run as much as it should?"""
        self._worn[path] = self._worn.get(path, 0) + 1
        return (
            sum(
                runs / processor.recycle_after
                for name, runs in self._worn.items()
                if (processor := self._processors.get(name)) is not None
            )
            >= 1.0
        )

    def _processor(self, path: str) -> Processor:
        if path not in self._processors:
            module, _, name = path.rpartition(".")
            self._processors[path] = getattr(import_module(module), name)()
        return self._processors[path]

    def ask_for_effect(self, wish: JSON) -> JSON:
        self.wire.send(wish)
        return self._effects.get()


def _sandbox() -> JSON:
    from agents.sandbox import probe  # noqa: PLC0415 - only the slot that is asked needs it at once

    held = probe()
    return {"event": "sandbox", "kind": held.kind, "reason": held.reason}


def end_everything() -> None:
    """Kill this process and every one in its group, at once."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> None:
    if os.getpgrp() != os.getpid():
        sys.exit("agents.slot is started by a worker, in a process group of its own.")
    connection = socket.socket(fileno=os.dup(0))
    connection.set_inheritable(False)
    # What a task starts must not find the socket in its standard input.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    slot = Slot(connection)
    threading.Thread(target=slot.listen, daemon=True).start()
    threading.Thread(target=slot.watch, daemon=True).start()
    slot.wire.send({"event": "ready"})
    slot.work()


if __name__ == "__main__":
    main()

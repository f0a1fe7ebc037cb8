"""Processors that show from outside what becomes of their process. Run in slots: plain Python."""

import os
import subprocess
import time
from pathlib import Path

from agents.contract import JSON, Outcome, ProcessorContext, Succeeded
from tests.processors import Nothing


class Linger(Nothing):
    """Runs until the file ``gate``, or for attempt 2 ``gate-2``, exists; from attempt ``until`` on
    it does not wait.

    Writes its own pid and that of a child of its own to ``pids``, and an empty file ``passed``
    when it got through.
    """

    recycle_after = 100

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:
        context.record("lingering")
        child = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
        try:
            if "pids" in payload:
                written = Path(f"{payload['pids']}.{context.attempt}")
                written.write_text(f"{os.getpid()} {child.pid}\n")
                written.rename(f"{payload['pids']}-{context.attempt}")
            self.wait(payload, context.attempt)
        finally:
            child.kill()
            child.wait()
        if "passed" in payload:
            Path(payload["passed"]).touch()
        return Succeeded({"attempt": context.attempt})

    def wait(self, payload: JSON, attempt: int) -> None:
        gates = [Path(payload["gate"]), Path(f"{payload['gate']}-{attempt}")]
        while attempt < payload.get("until", 1_000) and not any(map(Path.exists, gates)):
            time.sleep(0.01)


class Who(Nothing):
    """Tells which process ran it, after ``seconds``."""

    recycle_after = 3

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:
        time.sleep(payload.get("seconds", 0.0))
        return Succeeded({"pid": os.getpid()})


class Hang(Nothing):
    """Its probe never answers."""

    def probe(self, resource: str, settings: JSON) -> bool:
        time.sleep(600)
        return True

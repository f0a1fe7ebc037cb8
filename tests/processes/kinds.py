"""Processors that show from outside what becomes of their process. Run in slots: plain Python."""

import os
import subprocess
import time
from pathlib import Path

from agents.contract import JSON, Outcome, ProcessorContext, Succeeded, Workspace
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
    """Its probe never answers, and its clearing up never ends."""

    def probe(self, resource: str, settings: JSON) -> bool:
        time.sleep(600)
        return True

    def tidy(self, workspace: Workspace, settings: JSON) -> None:
        time.sleep(600)


class Heir(Nothing):
    """Keeps a patch of its own, unless ``idle``, and tells which ones it was to begin from."""

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:
        result: JSON = {"inputs": context.inputs, "base_commit": "c0ffee", "patch": None}
        if not payload.get("idle"):
            context.artefact("changes.patch", "text/x-diff").write_text(f"+{payload['text']}\n")
            result["patch"] = {"artefact": "changes.patch"}
        return Succeeded(result)


class Alone(Nothing):
    """Has its workspace to itself while it writes two lines to ``file``; between them it waits for
    the file ``gate``, where it has one."""

    needs_workspace = True

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:
        context.effect("writing", exclusive=True)
        with Path(payload["file"]).open("a") as file:
            file.write(f"{context.task_id} begins\n")
            file.flush()
            while "gate" in payload and not Path(payload["gate"]).exists():
                time.sleep(0.01)
            time.sleep(payload.get("seconds", 0.0))
            file.write(f"{context.task_id} ends\n")
        return Succeeded({})


class Messy(Nothing):
    """Leaves a file ``left-ID`` in its workspace, and lingers until the file ``gate`` exists."""

    needs_workspace = True

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:
        assert context.workspace is not None
        (context.workspace.root / f"left-{context.task_id}").touch()
        while not Path(payload["gate"]).exists():
            time.sleep(0.01)
        return Succeeded({})

    def tidy(self, workspace: Workspace, settings: JSON) -> None:
        for left in workspace.root.glob("left-*"):
            left.unlink()
        if (workspace.root / "stuck").exists():
            raise OSError("it cannot be cleared")

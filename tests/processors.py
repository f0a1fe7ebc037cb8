"""Processors for tests and the benchmark: plain Python, registered by test settings only."""

import os
import time
from datetime import timedelta
from pathlib import Path

from agents.contract import (
    JSON,
    LimitReached,
    Outcome,
    PayloadError,
    ProcessorContext,
    Rejected,
    Succeeded,
    TryAgain,
    Unavailable,
)


class Nothing:
    """Does nothing, at once."""

    recycle_after = 100_000
    needs_workspace = False

    def validate(self, payload: JSON, settings: JSON) -> JSON:
        return payload

    def replay_safe(self, payload: JSON) -> bool:
        return True

    def resources(self, payload: JSON) -> list[str]:
        return []

    def probe(self, resource: str, settings: JSON) -> bool:
        return True

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:
        return Succeeded({})


class Sleep(Nothing):
    """Sleeps for ``seconds``."""

    recycle_after = 100

    def validate(self, payload: JSON, settings: JSON) -> JSON:
        seconds = payload.get("seconds")
        if not isinstance(seconds, int | float) or seconds < 0:
            raise PayloadError("seconds", "Must be a number of seconds, 0 or more.")
        return payload

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:
        context.record("sleeping", seconds=payload["seconds"])
        time.sleep(payload["seconds"])
        return Succeeded({"slept": payload["seconds"]})


class Append(Nothing):
    """Appends its task id and attempt to ``file``: an effect that the database cannot undo."""

    recycle_after = 200

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:
        line = f"{context.task_id} {context.attempt}\n".encode()
        descriptor = os.open(payload["file"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        if seconds := payload.get("seconds"):
            time.sleep(seconds)
        return Succeeded({"appended": True})


class Modelled(Nothing):
    """Needs the models that ``models`` names, and sleeps for ``seconds``."""

    recycle_after = 100

    def resources(self, payload: JSON) -> list[str]:
        return [f"model:{name}" for name in payload["models"]]

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:
        time.sleep(payload.get("seconds", 0.0))
        return Succeeded({})


class Misbehave(Nothing):
    """Ends as ``how`` says."""

    recycle_after = 3

    def replay_safe(self, payload: JSON) -> bool:
        return bool(payload.get("replay_safe", True))

    def resources(self, payload: JSON) -> list[str]:
        return [payload["needs"]] if "needs" in payload else []

    def probe(self, resource: str, settings: JSON) -> bool:
        return Path(resource.partition(":")[2]).exists()

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:  # noqa: C901
        match payload["how"]:
            case "reject":
                return Rejected("no", {"why": "because"})
            case "limit":
                return LimitReached("lines", "too many", {})
            case "again":
                return TryAgain("not today", timedelta(seconds=payload.get("after", 0)))
            case "raise":
                raise RuntimeError("broken on purpose")
            case "die":
                os._exit(3)
            case "not json":
                return Succeeded({"x": float("nan")})
            case "nasty text":
                return Succeeded({"x": "a\0b\ud800c"})
            case "huge":
                return Succeeded({"x": "y" * 2_000_000})
            case "artefact":
                context.artefact("note.txt", "text/plain").write_text("kept")
                return Succeeded({})
            case "link":
                context.artefact("passwd", "text/plain").symlink_to("/etc/passwd")
                return Succeeded({})
            case "need":
                if not self.probe(payload["needs"], {}):
                    return Unavailable(payload["needs"], "it is away")
                return Succeeded({})
            case "effect, then die":
                context.effect("changing something")
                os._exit(3)
            case "flaky":
                if context.attempt < payload["until"]:
                    return TryAgain("not yet", timedelta(0))
                return Succeeded({"attempt": context.attempt})
        raise AssertionError(payload["how"])

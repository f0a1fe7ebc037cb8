"""One attempt inside a slot: what its processor is given, and how its outcome is told."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agents.contract import (
    JSON,
    EffectRefused,
    Environment,
    LimitReached,
    Lost,
    Outcome,
    Rejected,
    Succeeded,
    TimedOut,
    TryAgain,
    Unavailable,
    Workspace,
)

MOST_LOG_LINES = 10_000
LARGEST_LOG_LINE = 16_000
"""Characters of JSON; what is longer is cut to text."""
LARGEST_RESULT = 1024 * 1024
"""Bytes of JSON; a larger result is kept as the artefact ``result.json``."""
LONGEST_TEXT = 20_000
ASK_AGAIN = timedelta(seconds=0.25)
"""Between two looks at whether the workspace is free."""
ARTEFACT_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")

Send = Callable[[JSON], None]


class Context:
    """What one attempt's processor sees of the world (see ``agents.contract``)."""

    def __init__(
        self, job: JSON, settings: JSON, scratch: Path, send: Send, ask: Callable[[JSON], JSON]
    ) -> None:
        self.task_id: str = job["id"]
        self.attempt: int = job["attempt"]
        self.settings = settings
        self.workspace = workspace_of(job.get("workspace"))
        self.inputs: JSON = job.get("inputs") or {}
        self.sandbox = ""
        self._send = send
        self._ask = ask
        self._ends = time.monotonic() + float(job["timeout"])
        self._folder = scratch / f"{self.task_id}-{self.attempt}"
        self._artefacts: set[str] = set()
        self._lines = 0

    @property
    def workdir(self) -> Path:
        folder = self._folder / "work"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def remaining(self) -> timedelta:
        return timedelta(seconds=max(0.0, self._ends - time.monotonic()))

    def record(self, event: str, **fields: object) -> None:
        self._lines += 1
        if self._lines > MOST_LOG_LINES:
            return
        if self._lines == MOST_LOG_LINES:
            event, fields = "log truncated", {"lines": MOST_LOG_LINES}
        self._send(
            {
                "event": "log",
                "id": self.task_id,
                "attempt": self.attempt,
                "at": datetime.now(UTC).isoformat(),
                "name": clean(event)[:100],
                "fields": loggable(fields),
            }
        )

    def effect(self, name: str, *, exclusive: bool = False) -> None:
        wish = {"event": "effect", "id": self.task_id, "name": name, "exclusive": exclusive}
        while not (answer := self._ask(wish))["granted"]:
            if not answer.get("busy"):
                raise EffectRefused(f"The lease is lost: {name} must not be done.")
            if self.remaining() <= ASK_AGAIN:
                raise EffectRefused(f"Another attempt has the workspace to itself: no {name}.")
            time.sleep(ASK_AGAIN.total_seconds())

    def artefact(self, name: str, media_type: str) -> Path:
        if not ARTEFACT_NAME.match(name) or name.startswith("."):
            raise ValueError(f"{name!r} is not a name for an artefact.")
        folder = self._folder / "artefacts"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        if name not in self._artefacts:
            self._artefacts.add(name)
            self._send(
                {
                    "event": "artefact",
                    "id": self.task_id,
                    "name": name,
                    "media_type": media_type,
                    "path": str(path),
                }
            )
        return path

    def contained_by(self, sandbox: str) -> None:
        self.sandbox = sandbox

    def close(self) -> None:
        """Remove the scratch folder; artefacts stay until the supervisor has stored them."""
        if self._folder.exists():
            shutil.rmtree(self._folder / "work", ignore_errors=True)
            if not self._artefacts:
                shutil.rmtree(self._folder, ignore_errors=True)


def describe(outcome: Outcome, context: Context) -> JSON:  # noqa: PLR0911 - one outcome a line
    """An outcome as a message."""
    match outcome:
        case Succeeded(result):
            return {"outcome": "succeeded", "result": storable(result, context)}
        case Rejected(reason, result):
            return {
                "outcome": "rejected",
                "error": _text(reason),
                "result": storable(result, context),
            }
        case LimitReached(limit, reason, result):
            return {
                "outcome": "limit",
                "error": _text(f"{limit}: {reason}"),
                "result": storable(result, context),
            }
        case TimedOut(reason, result):
            return {
                "outcome": "timeout",
                "error": _text(reason),
                "result": storable(result, context),
                "interrupted": True,
            }
        case TryAgain(reason, after):
            return {
                "outcome": "error",
                "error": _text(reason),
                "retry_in": None if after is None else after.total_seconds(),
            }
        case Lost(reason):
            return {"outcome": "lost", "error": _text(reason), "interrupted": True}
        case Unavailable(resource, reason):
            return {"outcome": "unavailable", "error": _text(reason), "resource": resource}


def storable(result: JSON, context: Context) -> JSON:
    """The result as every database can keep it; a very large one goes into a file."""
    text = json.dumps(result, allow_nan=False)
    if "\\u0000" in text or "\\ud" in text:
        result = clean(result)
    if len(text) <= LARGEST_RESULT:
        return result
    context.artefact("result.json", "application/json").write_text(json.dumps(result))
    return {"artefact": "result.json", "bytes": len(text)}


def loggable(fields: dict[str, object]) -> JSON:
    """The fields as every database can keep them: JSON without NaN, of bounded size."""
    try:
        text = json.dumps(fields, default=str, allow_nan=False)
    except ValueError:
        text = json.dumps({name: repr(value) for name, value in fields.items()})
    if len(text) > LARGEST_LOG_LINE:
        return {"cut": True, "text": clean(text[:LARGEST_LOG_LINE])}
    kept: JSON = clean(json.loads(text))
    return kept


def clean(value: Any) -> Any:
    """The value without characters that PostgreSQL's jsonb refuses: NUL, lone surrogates."""
    match value:
        case str():
            return (
                value.encode("utf-16", "surrogatepass")
                .decode("utf-16", "replace")
                .replace("\0", "\N{REPLACEMENT CHARACTER}")
            )
        case list() | tuple():
            return [clean(item) for item in value]
        case dict():
            return {clean(str(key)): clean(item) for key, item in value.items()}
    return value


def _text(text: str) -> str:
    return clean(text)[:LONGEST_TEXT]  # type: ignore[no-any-return]


def last_lines(trace: str) -> str:
    text = _text(trace[-LONGEST_TEXT:])
    return text.strip()


def workspace_of(told: JSON | None) -> Workspace | None:
    """A workspace as a job tells of it."""
    if told is None:
        return None
    environment = told["environment"]
    return Workspace(
        name=told["name"],
        root=Path(told["root"]),
        environment=Environment(
            virtualenv=environment.get("virtualenv", ""),
            path=tuple(environment.get("path", ())),
            variables=dict(environment.get("variables", {})),
        ),
    )

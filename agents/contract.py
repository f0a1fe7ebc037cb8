"""What a processor is given and what it may answer.

The only module the console shares with its processors: standard library only, no work at import.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeAlias

JSON: TypeAlias = dict[str, Any]
"""A JSON object (RFC 8259): string keys, values that ``json.dumps`` takes with allow_nan=False."""

MCP_SERVERS = "mcp_servers"
"""The setting that holds the MCP servers, by name: see ``agents.mcp.definition.find``."""
BUILT_IN_SERVER = "filesystem"
"""The MCP server that is always there: it works in the batch's workspace."""
SERVER_RESOURCE = "mcp:"
"""What the resource of an MCP server begins with; its name follows."""
MODELS = "models"
"""The setting that holds the profiles of models, by name: see ``agents.coding.profile.find``."""
MODEL_RESOURCE = "model:"
"""What the resource of a model begins with; its name follows."""


def lease_clock() -> float:
    """Seconds of a clock that goes on while the machine sleeps, as a lease in the database does."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class PayloadError(ValueError):
    """A payload that cannot be run. ``field`` is the item's field, dotted when nested."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class StillAway(Exception):
    """A probe's no; the text says why."""


class EffectRefused(Exception):
    """Nothing shared may be changed: the lease is gone, or another has the workspace to itself."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """It ran to its end and the answer is yes."""

    result: JSON


@dataclass(frozen=True, slots=True)
class Rejected:
    """It ran to its end and the answer is no: findings, red tests. Never retried."""

    reason: str
    result: JSON


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Infrastructure failed. Costs one of ``max_attempts``; ``after`` replaces the backoff."""

    reason: str
    after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A needed resource is away. Costs nothing; the task waits until a probe finds it back."""

    resource: str
    reason: str


@dataclass(frozen=True, slots=True)
class LimitReached:
    """A limit of the task itself was reached (output, tokens, files). Never retried."""

    limit: str
    reason: str
    result: JSON


@dataclass(frozen=True, slots=True)
class TimedOut:
    """It stopped itself shortly before its time was up, to keep what it had found so far.

    Settled as ``timeout``: retried with backoff while budget is left.
    """

    reason: str
    result: JSON


@dataclass(frozen=True, slots=True)
class Lost:
    """What was asked of somebody else was sent, and no answer came: was it done? Nobody knows.

    Run again while budget is left, but not after an announced effect.
    """

    reason: str


Outcome: TypeAlias = Succeeded | Rejected | TryAgain | Unavailable | LimitReached | TimedOut | Lost


@dataclass(frozen=True, slots=True)
class Environment:
    """What commands of a workspace run in. Paths are absolute; nothing else reaches a child."""

    virtualenv: str = ""
    path: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder a task works in. ``root`` is absolute and resolved."""

    name: str
    root: Path
    environment: Environment = Environment()


class ProcessorContext(Protocol):
    """One attempt, seen from inside the slot."""

    task_id: str
    attempt: int
    settings: JSON
    """The settings of the kind, as configured: limits, allow-lists, tools."""
    workspace: Workspace | None
    inputs: JSON
    """What the console adds to this one task's payload when it runs: see its kind's ``inputs``."""

    @property
    def workdir(self) -> Path:
        """A private scratch folder of this attempt, made on first use and removed after it."""

    def remaining(self) -> timedelta:
        """Time left before the supervisor kills this attempt."""

    def record(self, event: str, **fields: object) -> None:
        """Add one line to the task's live log. Fields must be JSON values."""

    def effect(self, name: str, *, exclusive: bool = False) -> None:
        """Announce a change to something shared; returns once the console has fenced it.

        Afterwards the attempt is no longer replayed when it is lost. ``exclusive`` also waits until
        no other attempt has the workspace to itself, and then has it until this one is settled.

        Raises:
            EffectRefused: the lease is gone, or no time is left to wait: the change must not be
                made.
        """

    def artefact(self, name: str, media_type: str) -> Path:
        """A path to write a file to that is kept with the attempt once it settles.

        ``name`` is unique in the attempt: letters, digits, ``.``, ``_`` and ``-``, 100 at most.
        """

    def contained_by(self, sandbox: str) -> None:
        """Say which sandbox held the attempt's commands; kept with the attempt."""


class Processor(Protocol):
    """One kind of task. Constructed once per process, without arguments."""

    recycle_after: int
    """Tasks one slot process runs before it is replaced (100; more for tiny ones)."""
    needs_workspace: bool
    """Must a batch of this kind name a workspace?"""

    def validate(self, payload: JSON, settings: JSON) -> JSON:
        """The normalised payload.

        Called in the web process: no I/O, no heavy import. Paths are checked lexically here and
        really in ``run``.

        Raises:
            PayloadError: names the field and what would be right.
        """

    def replay_safe(self, payload: JSON) -> bool:
        """May a lost attempt be run again without asking anybody?"""

    def resources(self, payload: JSON) -> list[str]:
        """Names of what must be reachable, such as ``model:qwen2.5-coder:7b`` or ``mcp:fs``."""

    def probe(self, resource: str, settings: JSON) -> bool | JSON:
        """Is the resource back? Runs in a slot; seconds, not minutes.

        An object is a yes too: what was found there, such as ``{"tools": 13}``.

        Raises:
            StillAway: no, with the reason.
        """

    def run(self, payload: JSON, context: ProcessorContext) -> Outcome:
        """Do the work. An exception counts as ``error`` with its traceback."""


class TidyProcessor(Processor, Protocol):
    """A kind of task whose attempts leave something in the workspace when they are killed."""

    def tidy(self, workspace: Workspace, settings: JSON) -> None:
        """Remove what attempts that are over left there. Runs in a slot, beside live attempts."""

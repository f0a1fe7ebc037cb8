"""Schemathesis against a served console: every call of its OpenAPI document, every check."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.transport import Response
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext
from schemathesis.openapi.checks import JsonSchemaError, RejectedPositiveData, UseAfterFree

from batches.api.keys import HEADER, VISIBLE
from tests.fuzzing.unsaid import is_unsaid

PHASES = ("examples", "coverage", "fuzzing", "stateful")
JSON_LINES = "application/x-ndjson"
SHOWN = 1000
"""Characters of an answer that did not fit."""


@dataclass
class Tally:
    """What was sent, and what came back."""

    answers: Counter[int] = field(default_factory=Counter)
    """Status → how many."""
    unanswered: int = 0
    calls: set[str] = field(default_factory=set)
    succeeded: set[str] = field(default_factory=set)
    failures: dict[tuple[str | None, str], str] = field(default_factory=dict)
    """Call and what is wrong → the first of its like, with the way to see it again."""

    @property
    def cases(self) -> int:
        return self.answers.total() + self.unanswered

    def add(self, recorder: ScenarioRecorder) -> None:
        for key, node in recorder.cases.items():
            call = node.value.operation.label
            self.calls.add(call)
            response = recorder.find_response(case_id=key)
            if response is None:
                self.unanswered += 1
                continue
            self.answers[response.status_code] += 1
            if response.status_code < 300:
                self.succeeded.add(call)
        for key, checks in recorder.checks.items():
            for check in checks:
                if check.failure_info is not None:
                    failure = check.failure_info.failure
                    response = recorder.find_response(case_id=failure.case_id or key)
                    answer = "" if response is None else response.content.decode(errors="replace")
                    words = (failure.message, check.failure_info.code_sample, answer[:SHOWN])
                    self.fail(failure.operation, failure.title, "\n".join(words))

    def fail(self, call: str | None, title: str, words: str) -> None:
        self.failures.setdefault((call, title), words)


def run(
    tally: Tally,
    address: str,
    token: str,
    *,
    examples: int,
    seed: int,
    phases: Collection[str] = PHASES,
) -> None:
    """Ask the console at ``address``; ``examples`` is how many are made up for each call."""
    headers = {"Authorization": f"Token {token}"}
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "base-url": address,
            "headers": headers,
            "continue-on-failure": True,
            "request-timeout": 60,
            "phases": {name: {"enabled": name in phases} for name in PHASES},
            "generation": {
                "mode": "all",
                "max-examples": examples,
                "no-shrink": True,
                "database": "none",
            },
        }
    )
    schema = schemathesis.openapi.from_url(f"{address}/schema", config=config, headers=headers)
    schema.hook(map_case)
    schema.hook(filter_failure)
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished():
                tally.add(event.recorder)
            case events.NonFatalError():
                tally.fail(event.label, event.info.title, str(event.info))
            case events.FatalError():
                raise event.exception


@schemathesis.serializer(JSON_LINES)
def as_lines(context: schemathesis.SerializationContext, value: Any) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value)).encode()


@schemathesis.deserializer(JSON_LINES)
def first_line(context: schemathesis.DeserializationContext, response: Response) -> Any:
    """The schema is that of a line; all of them must be JSON. There may be none."""
    lines = [json.loads(line) for line in response.content.splitlines()]
    return lines[0] if lines else None


def map_case(context: HookContext, case: Case) -> Case:
    """A valid key is made new: under one of another body, nothing but the key would be read."""
    key = (case.headers or {}).get(HEADER)
    if key is not None and VISIBLE.fullmatch(key):
        case.headers[HEADER] = f"{key[:200]}{case.id}"
    return case


def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Whether it is one: all checks are made, and these demands are wrong."""
    match failure:
        case AcceptedNegativeData() | RejectedPositiveData() if response.status_code == 414:
            return False  # too long an address is refused whatever else it says
        case JsonSchemaError() if not response.content:
            return not response.headers["content-type"][0].startswith(JSON_LINES)
        case UseAfterFree():
            # To delete a batch is to cancel it: it stays to be looked at.
            return failure.operation != "DELETE /batch/{id}"
        case RejectedPositiveData():
            errors: list[dict[str, Any]] = response.json().get("errors", [])
            return not errors or not all(is_unsaid(**error) for error in errors)
    return True

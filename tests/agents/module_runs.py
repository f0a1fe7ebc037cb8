"""What tests of the test processor share: one run of a module, and what it left."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from agents.contract import (
    JSON,
    Environment,
    LimitReached,
    Outcome,
    Rejected,
    Succeeded,
    TimedOut,
    Workspace,
)
from agents.processors.test_run import ModuleRunProcessor
from tests.agents.conftest import RecordingContext


@pytest.fixture(autouse=True)
def without_the_plugins_of_these_tests(context: RecordingContext, project: Path) -> None:
    environment = Environment(variables={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    context.workspace = Workspace("project", project, environment)


def run(context: RecordingContext, path: str, **payload: object) -> Outcome:
    processor = ModuleRunProcessor()
    normal = processor.validate({"path": path, **payload}, context.settings)
    assert json.loads(json.dumps(normal)) == normal
    return processor.run(normal, context)


def result_of(outcome: Outcome) -> JSON:
    assert isinstance(outcome, Succeeded | Rejected | TimedOut | LimitReached), outcome
    assert outcome.result["ok"] == isinstance(outcome, Succeeded)
    json.dumps(outcome.result, allow_nan=False)
    return outcome.result


def junit_of(context: RecordingContext) -> ET.Element:
    suite = ET.parse(context.kept("junit.xml")).getroot()[0]
    assert suite.tag == "testsuite"
    return suite

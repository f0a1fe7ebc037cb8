"""The test processor with modules that print, claim or take too much."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.contract import LimitReached, Rejected
from tests.agents.conftest import RecordingContext
from tests.agents.module_runs import (
    junit_of,
    result_of,
    run,
    without_the_plugins_of_these_tests,
)

__all__ = ["without_the_plugins_of_these_tests"]


def test_huge_output_is_kept_once_and_shown_in_part(
    context: RecordingContext, project: Path
) -> None:
    (project / "test_loud.py").write_text(
        "def test_loud():\n    for number in range(100_000): print('line', number)\n"
    )
    outcome = run(context, "test_loud.py", test_command="pytest -s -p no:cacheprovider")
    output = result_of(outcome)["output"]
    assert output["truncated"] is True
    assert len(output["head"]) == len(output["tail"]) == 64 * 1024
    kept = context.kept("output.txt")
    assert kept.stat().st_size == output["bytes"]
    assert "line 50000\n" in kept.read_text()


def test_output_past_its_limit_fails_the_task(context: RecordingContext, project: Path) -> None:
    (project / "test_loud.py").write_text(
        "def test_first(): pass\ndef test_loud():\n    while True: print('x' * 1000)\n"
    )
    context.settings = {"max_output_bytes": 1024 * 1024}
    outcome = run(context, "test_loud.py", test_command="pytest -s")
    assert isinstance(outcome, LimitReached)
    assert outcome.limit == "output"
    assert result_of(outcome)["running"] == "test_loud.py::test_loud"


def test_many_cases_are_shown_in_part_red_ones_first(
    context: RecordingContext, project: Path
) -> None:
    (project / "test_many.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('number', range(2050))\n"
        "def test_many(number): assert number != 2040\n"
    )
    result = result_of(run(context, "test_many.py", test_command="pytest -q"))
    assert result["counts"]["passed"] == 2049
    assert result["cases_truncated"] is True
    assert len(result["cases"]) == 2000
    assert [case["id"] for case in result["cases"] if case["outcome"] == "failed"] == [
        "test_many.py::test_many[2040]"
    ]
    assert len(junit_of(context)) == 2050


@pytest.mark.parametrize(
    "line",
    [
        "not JSON at all",
        "[1, 2]",
        "[" * 100_000,
        '{"event": "phase", "id": "x"}',
        '{"event": "phase", "id": "x", "category": "passed", "seconds": NaN}',
        '{"event": "phase", "id": "x", "category": "passed", "seconds": "1"}',
        '{"event": "phase", "id": "x", "category": "passed", "seconds": 1e308}',
        '{"event": "phase", "id": 7, "category": {}, "seconds": 0}',
        '{"event": "end", "exit_code": 1e999}',
        '{"event": "party"}',
    ],
)
def test_a_module_that_forges_its_report_is_rejected_with_its_output(
    context: RecordingContext, project: Path, line: str
) -> None:
    (project / "test_forges.py").write_text(
        "import ollama_coder_events\ndef test_forging():\n"
        "    print('the output is kept')\n"
        "    with open(ollama_coder_events.EVENTS, 'a') as events:\n"
        f"        events.write({line!r} + chr(10))\n"
        "    assert 0\n"
    )
    outcome = run(context, "test_forges.py")
    assert isinstance(outcome, Rejected)
    assert "report cannot be read" in outcome.reason
    assert "the output is kept" in result_of(outcome)["output"]["head"]


def test_a_report_that_never_ends_does_not_fill_the_memory(
    context: RecordingContext, project: Path
) -> None:
    (project / "test_sparse.py").write_text(
        "import os, ollama_coder_events\ndef test_growing():\n"
        "    os.truncate(ollama_coder_events.EVENTS, 900 << 20)\n"
    )
    outcome = run(context, "test_sparse.py")
    assert isinstance(outcome, Rejected)
    assert "a line of more than" in outcome.reason


def test_a_run_with_red_cases_is_no_success_whatever_its_exit_code(
    context: RecordingContext, project: Path
) -> None:
    (project / "conftest.py").write_text(
        "def pytest_sessionfinish(session): session.exitstatus = 0\n"
    )
    (project / "test_red.py").write_text("def test_red(): assert 0\n")
    outcome = run(context, "test_red.py")
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "1 failed of 1"


def test_a_disk_that_is_nearly_full_ends_the_run(context: RecordingContext, project: Path) -> None:
    context.settings["min_free_bytes"] = 1 << 60
    (project / "test_slow.py").write_text("import time\ndef test_slow(): time.sleep(30)\n")
    outcome = run(context, "test_slow.py")
    assert isinstance(outcome, LimitReached)
    assert outcome.limit == "disk"

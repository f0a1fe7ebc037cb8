"""The test processor with a real pytest on real modules."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from agents.contract import (
    JSON,
    PayloadError,
    Rejected,
    Succeeded,
    TimedOut,
)
from agents.processors.test_run import ModuleRunProcessor
from tests.agents.conftest import RecordingContext
from tests.agents.module_runs import (
    junit_of,
    result_of,
    run,
    without_the_plugins_of_these_tests,
)

__all__ = ["without_the_plugins_of_these_tests"]

MIXED = """
import pytest

def test_passes(): print("a line of output")
def test_fails(): assert 1 + 1 == 3, "sums are hard"
@pytest.mark.skip(reason="not today")
def test_skips(): pass
@pytest.mark.xfail(reason="known bug")
def test_xfails(): assert False
@pytest.mark.xfail
def test_xpasses(): pass
@pytest.mark.xfail(strict=True, reason="was fixed")
def test_strict(): pass
@pytest.fixture
def broken_setup(): raise LookupError("no ground to stand on")
def test_error(broken_setup): pass
@pytest.fixture
def broken_teardown():
    yield
    raise LookupError("left a mess")
def test_passes_then_error(broken_teardown): pass
@pytest.mark.parametrize("given", ["a::b", "größe"])
def test_given(given): pass
class TestClass:
    def test_method(self, tmp_path): (tmp_path / "file").write_text("x")
"""


def test_every_outcome_is_counted_as_pytest_does(context: RecordingContext, project: Path) -> None:
    (project / "test_mixed.py").write_text(MIXED)
    outcome = run(context, "test_mixed.py")
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "2 failed, 2 errors of 11"
    result = result_of(outcome)
    assert result["counts"] == {
        "passed": 5, "failed": 2, "errors": 2, "skipped": 1, "xfailed": 1, "xpassed": 1,
    }  # fmt: skip
    said = result["output"]["head"].strip().splitlines()[-1]
    for words in ("5 passed", "2 failed", "2 errors", "1 skipped", "1 xfailed", "1 xpassed"):
        assert words in said
    assert result["total"] == 11
    assert result["exit_code"] == 1
    assert result["running"] is None
    assert result["command"] == "pytest -v test_mixed.py"
    assert context.sandboxes == ["bubblewrap"]


def test_each_case_has_outcome_time_and_reason(context: RecordingContext, project: Path) -> None:
    (project / "test_mixed.py").write_text(MIXED)
    result = result_of(run(context, "test_mixed.py"))
    cases = {case["id"].split("::", 1)[1]: case for case in result["cases"]}
    assert {name: (case["outcome"], case.get("message")) for name, case in cases.items()} == {
        "test_passes": ("passed", None),
        "test_fails": ("failed", "AssertionError: sums are hard\nassert (1 + 1) == 3"),
        "test_skips": ("skipped", "Skipped: not today"),
        "test_xfails": ("xfailed", "known bug"),
        "test_xpasses": ("xpassed", None),
        "test_strict": ("failed", "[XPASS(strict)] was fixed"),
        "test_error": ("error", "LookupError: no ground to stand on"),
        "test_passes_then_error": ("error", "LookupError: left a mess"),
        "test_given[a::b]": ("passed", None),
        r"test_given[gr\xf6\xdfe]": ("passed", None),
        "TestClass::test_method": ("passed", None),
    }
    assert "sums are hard" in cases["test_fails"]["text"]
    assert all(case["seconds"] >= 0 for case in cases.values())


def test_junit_xml_holds_every_case(context: RecordingContext, project: Path) -> None:
    (project / "sub").mkdir()
    (project / "sub" / "test_mixed.py").write_text(MIXED)
    run(context, "sub")
    assert context.artefacts == {"junit.xml": "application/xml"}
    suite = junit_of(context)
    totals = {key: suite.get(key) for key in ("name", "tests", "failures", "errors", "skipped")}
    assert totals == {"name": "sub", "tests": "11", "failures": "2", "errors": "2", "skipped": "2"}
    cases = {(case.get("classname"), case.get("name")): case for case in suite}
    assert ("sub.test_mixed.TestClass", "test_method") in cases
    assert ("sub.test_mixed", "test_given[a::b]") in cases
    (failure,) = cases["sub.test_mixed", "test_fails"]
    assert failure.tag == "failure"
    assert "sums are hard" in (failure.text or "")


def test_a_green_module_succeeds(context: RecordingContext, project: Path) -> None:
    (project / "test_green.py").write_text("def test_one(): pass\n")
    outcome = run(context, "test_green.py", test_command="python -m pytest -q")
    assert isinstance(outcome, Succeeded)
    assert outcome.result["counts"]["passed"] == 1


@pytest.mark.parametrize(
    ("body", "ending"),
    [
        ("os._exit(0)", "exit code 0"),
        ("os._exit(3)", "exit code 3"),
        ("os.kill(os.getpid(), 11)", "killed by signal 11"),
    ],
)
def test_a_run_that_dies_keeps_what_it_found(
    context: RecordingContext, project: Path, body: str, ending: str
) -> None:
    (project / "test_dies.py").write_text(
        "import os\ndef test_first(): pass\ndef test_red(): assert 0\n"
        f"def test_killer(): {body}\ndef test_never(): pass\n"
    )
    outcome = run(context, "test_dies.py")
    assert isinstance(outcome, Rejected)
    assert "did not get to its end while test_dies.py::test_killer was running" in outcome.reason
    assert ending in outcome.reason
    result = result_of(outcome)
    assert result["running"] == "test_dies.py::test_killer"
    assert result["total"] == 4
    assert [case["outcome"] for case in result["cases"]] == ["passed", "failed"]
    suite = junit_of(context)
    assert [case.get("name") for case in suite] == ["test_first", "test_red", "test_killer"]
    assert suite[2][0].tag == "error"


def test_a_run_out_of_time_keeps_what_it_found(context: RecordingContext, project: Path) -> None:
    (project / "test_slow.py").write_text(
        "import time\ndef test_first(): pass\ndef test_slow(): time.sleep(600)\n"
    )
    context.timeout = timedelta(seconds=3)
    outcome = run(context, "test_slow.py")
    assert isinstance(outcome, TimedOut), outcome
    assert context.remaining() > timedelta(0)
    result = result_of(outcome)
    assert result["running"] == "test_slow.py::test_slow"
    assert [case["id"] for case in result["cases"]] == ["test_slow.py::test_first"]
    assert [case.get("name") for case in junit_of(context)] == ["test_first", "test_slow"]


def test_progress_is_told_while_tests_run(context: RecordingContext, project: Path) -> None:
    (project / "test_steps.py").write_text(
        "import time\n"
        "def test_red(): assert 0, 'early'\n"
        "def test_one(): time.sleep(0.7)\n"
        "def test_two(): time.sleep(0.7)\n"
    )
    run(context, "test_steps.py")
    reds = [line for line in context.log if line["event"] == "test failed"]
    assert [(line["id"], line["message"]) for line in reds] == [
        ("test_steps.py::test_red", "AssertionError: early\nassert 0")
    ]
    states = [line for line in context.log if line["event"] == "tests"]
    assert context.log.index(reds[0]) < len(context.log) - 1
    assert "test_steps.py::test_two" in {state["running"] for state in states}
    assert states[-1]["finished"] == states[-1]["total"] == 3
    assert states[-1]["passed"] == 2


def test_a_module_that_cannot_be_imported_is_an_error(
    context: RecordingContext, project: Path
) -> None:
    (project / "test_broken.py").write_text("import no_such_module\n")
    outcome = run(context, "test_broken.py")
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "1 error"
    (case,) = result_of(outcome)["cases"]
    assert case["message"] == "ModuleNotFoundError: No module named 'no_such_module'"


def test_a_module_without_tests_says_so(context: RecordingContext, project: Path) -> None:
    (project / "test_none.py").write_text("")
    outcome = run(context, "test_none.py")
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "no tests were collected in test_none.py"


def test_a_broken_conftest_is_named(context: RecordingContext, project: Path) -> None:
    (project / "conftest.py").write_text("import no_such_module\n")
    (project / "test_it.py").write_text("def test_it(): pass\n")
    outcome = run(context, "test_it.py")
    assert isinstance(outcome, Rejected)
    assert "No module named 'no_such_module'" in outcome.reason


def test_a_run_does_not_touch_the_workspace(context: RecordingContext, project: Path) -> None:
    (project / "data.txt").write_text("as it was")
    (project / "test_write.py").write_text(
        "from pathlib import Path\n"
        "def test_write():\n"
        f"    here = Path({str(project)!r})\n"
        "    assert Path.cwd() == here\n"
        "    (here / 'data.txt').write_text('changed')\n"
        "    (here / 'made.txt').write_text('made')\n"
        "    assert (here / 'data.txt').read_text() == 'changed'\n"
    )
    outcome = run(context, "test_write.py")
    assert isinstance(outcome, Succeeded), outcome
    assert sorted(path.name for path in project.iterdir()) == ["data.txt", "test_write.py"]
    assert (project / "data.txt").read_text() == "as it was"


def test_a_pytest_that_a_test_starts_is_not_counted(
    context: RecordingContext, project: Path
) -> None:
    (project / "inner").mkdir()
    (project / "inner" / "test_inner.py").write_text("def test_a(): pass\ndef test_b(): assert 0\n")
    (project / "test_outer.py").write_text(
        "import subprocess, sys, pytest\n"
        "def test_process():\n"
        "    command = [sys.executable, '-m', 'pytest', 'inner']\n"
        "    assert subprocess.run(command).returncode == 1\n"
        "def test_in_process(): assert pytest.main(['inner']) == 1\n"
    )
    outcome = run(context, "test_outer.py")
    assert isinstance(outcome, Succeeded), outcome
    assert outcome.result["counts"]["passed"] == outcome.result["total"] == 2


def test_workers_of_xdist_are_one_run(context: RecordingContext, project: Path) -> None:
    (project / "test_mixed.py").write_text(MIXED)
    (project / "test_broken.py").write_text("import no_such_module\n")
    outcome = run(context, ".", test_command="pytest -p xdist -n 2 --dist load")
    result = result_of(outcome)
    assert result["counts"] == {
        "passed": 5, "failed": 2, "errors": 3, "skipped": 1, "xfailed": 1, "xpassed": 1,
    }  # fmt: skip
    assert result["total"] == 11
    assert result["running"] is None


def test_another_command_answers_by_its_exit_code(context: RecordingContext, project: Path) -> None:
    (project / "test_unit.py").write_text(
        "import unittest\nclass Test(unittest.TestCase):\n    def test_it(self): self.fail('no')\n"
    )
    outcome = run(context, "test_unit.py", test_command="python -m unittest")
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "python: exit code 1"
    assert "FAILED (failures=1)" in result_of(outcome)["output"]["head"]
    assert context.artefacts == {}


def test_names_in_any_script_work(context: RecordingContext, project: Path) -> None:
    (project / "пpüfung 名").mkdir()
    (project / "пpüfung 名" / "test_größe.py").write_text("def test_größe(): assert 'ß' == 'ss'\n")
    outcome = run(context, "пpüfung 名/test_größe.py")
    (case,) = result_of(outcome)["cases"]
    assert case["id"] == "пpüfung 名/test_größe.py::test_größe"
    assert [each.get("name") for each in junit_of(context)] == ["test_größe"]


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({}, "path"),
        ({"path": "/etc"}, "path"),
        ({"path": "a", "test_command": "sh -c pytest"}, "test_command"),
        ({"path": "a", "test_command": 3}, "test_command"),
    ],
)
def test_a_bad_payload_names_its_field(payload: JSON, field: str) -> None:
    with pytest.raises(PayloadError) as caught:
        ModuleRunProcessor().validate(payload, {})
    assert caught.value.field == field


def test_defaults_are_written_into_the_payload() -> None:
    processor = ModuleRunProcessor()
    assert processor.validate({"path": "tests//unit/"}, {}) == {
        "path": "tests/unit",
        "test_command": "pytest -v",
    }
    assert processor.replay_safe({}) is True
    assert processor.resources({}) == []

"""The validation processor with the real tools on real files."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agents.contract import JSON, Outcome, PayloadError, Rejected, Succeeded, TimedOut, TryAgain
from agents.findings import MAX_SHOWN
from agents.processors.validation import ValidationProcessor
from tests.agents.conftest import RecordingContext

EVERY_CHECK = ["syntax", "lint", "format", "types", "security"]


def validate(context: RecordingContext, path: str, **payload: object) -> Outcome:
    processor = ValidationProcessor()
    normal = processor.validate({"path": path, **payload}, context.settings)
    assert json.loads(json.dumps(normal)) == normal
    return processor.run(normal, context)


def result_of(outcome: Outcome) -> JSON:
    assert isinstance(outcome, Succeeded | Rejected), outcome
    assert outcome.result["ok"] == isinstance(outcome, Succeeded)
    json.dumps(outcome.result, allow_nan=False)
    return outcome.result


def rules(outcome: Outcome) -> list[tuple[str, str, int | None]]:
    """Check, rule and line of each finding."""
    return [
        (
            finding["properties"]["check"],
            finding["ruleId"],
            finding["locations"][0]["physicalLocation"].get("region", {}).get("startLine"),
        )
        for finding in result_of(outcome)["findings"]
    ]


def test_a_clean_file_passes_every_check(context: RecordingContext, project: Path) -> None:
    (project / "app.py").write_text('"""An app."""\n\nGREETING: str = "hello"\n')
    outcome = validate(context, "app.py", checks=EVERY_CHECK)
    assert isinstance(outcome, Succeeded), outcome
    assert [(name, outcome.result["checks"][name]["ok"]) for name in EVERY_CHECK] == [
        (name, True) for name in EVERY_CHECK
    ]
    assert context.sandboxes == ["bubblewrap"]


def test_each_check_finds_what_it_is_for(context: RecordingContext, project: Path) -> None:
    source = 'import os\n\nnumber: int = "text"\nassert number\nx=1\n'
    (project / "app.py").write_text(source)
    outcome = validate(context, "app.py", checks=EVERY_CHECK)
    assert rules(outcome) == [
        ("lint", "F401", 1),
        ("format", "unformatted", 5),
        ("types", "invalid-assignment", 3),
        ("security", "S101", 4),
    ]
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "app.py: findings in 1 lint, 1 format, 1 types, 1 security"


def test_a_finding_is_a_sarif_result(context: RecordingContext, project: Path) -> None:
    (project / "größe 1.py").write_text("import os\n")
    (finding,) = result_of(validate(context, "größe 1.py", checks=["lint"]))["findings"]
    assert finding == {
        "ruleId": "F401",
        "level": "error",
        "message": {"text": "`os` imported but unused"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": "gr%C3%B6%C3%9Fe%201.py"},
                    "region": {"startLine": 1, "startColumn": 8, "endLine": 1, "endColumn": 10},
                }
            }
        ],
        "properties": {"check": "lint", "tool": "ruff"},
    }


@pytest.mark.parametrize(
    ("checks", "holder"),
    [(EVERY_CHECK, "syntax"), (["lint", "format"], "lint"), (["format", "types"], "format"),
     (["types", "security"], "types"), (["security"], "security"), (["syntax"], "syntax")],
)  # fmt: skip
def test_broken_syntax_is_reported_once(
    context: RecordingContext, project: Path, checks: list[str], holder: str
) -> None:
    (project / "app.py").write_text("def broken(:\n    pass\n")
    found = rules(validate(context, "app.py", checks=checks))
    assert set(found) == {(holder, "invalid-syntax", 1)}
    alone = rules(validate(context, "app.py", checks=[holder]))
    assert found == alone


def test_the_project_s_own_configuration_decides(context: RecordingContext, project: Path) -> None:
    (project / "pyproject.toml").write_text(
        '[tool.ruff]\nline-length = 20\nlint.select = ["E501"]\nformat.quote-style = "single"\n'
    )
    (project / "app.py").write_text("import os\nname = 'rather a long line'\n")
    assert rules(validate(context, "app.py")) == [("lint", "E501", 2), ("format", "unformatted", 2)]


def test_a_broken_configuration_is_the_user_s_to_mend(
    context: RecordingContext, project: Path
) -> None:
    (project / "app.py").write_text("")
    (project / "ruff.toml").write_text("line-length = 'wide'\n")
    outcome = validate(context, "app.py")
    assert isinstance(outcome, Rejected)
    assert "ruff.toml" in outcome.reason
    assert "expected" in outcome.reason


@pytest.mark.parametrize(
    ("name", "content", "rule", "line"),
    [
        ("bad.json", b'{"a": 1,\n "b" 2}', "invalid-json", 2),
        ("nan.json", b"[NaN]", "invalid-json", None),
        ("bad.toml", b"a = 1\nb = = 2\n", "invalid-toml", 2),
        ("bad.yaml", b"a: 1\nb: [1, 2\nc: 3\n", "invalid-yaml", 3),
        ("second.yml", b"a: 1\n---\nb: }\n", "invalid-yaml", 3),
        ("alias.yaml", b"a: *missing\n", "invalid-yaml", 1),
        ("latin.toml", b"a = 'caf\xe9'\n", "invalid-toml", None),
    ],
)
def test_data_that_does_not_parse_is_found(
    context: RecordingContext, project: Path, name: str, content: bytes, rule: str, line: int | None
) -> None:
    (project / name).write_bytes(content)
    assert rules(validate(context, name)) == [("syntax", rule, line)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("good.json", '{"a": [1, 2.5, null]}'),
        ("good.toml", "[a]\nb = 1979-05-27\n"),
        ("good.yaml", "a: &x [1, !Ref b]\nc: *x\n---\n? [k]\n: 2001-99-99\n"),
        ("empty.yaml", ""),
    ],
)
def test_data_that_parses_passes(
    context: RecordingContext, project: Path, name: str, content: str
) -> None:
    (project / name).write_text(content)
    checks = result_of(validate(context, name))["checks"]
    assert checks["syntax"]["ok"] is True
    assert checks["lint"].keys() == {"skipped"}


def test_a_yaml_bomb_is_only_text(context: RecordingContext, project: Path) -> None:
    lines = ["a0: &a0 {k: v}"]
    for level in range(1, 40):
        names = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} {{<<: [{names}]}}")
    (project / "bomb.yaml").write_text("\n".join(lines))
    context.settings = {"memory_bytes": 512 * 1024 * 1024}
    assert isinstance(validate(context, "bomb.yaml"), Succeeded)


@pytest.mark.parametrize(
    ("name", "content"),
    [("deep.json", "[" * 100_000), ("deep.yaml", "[" * 100_000), ("deep.toml", "a=" + "[" * 9_000)],
)
def test_data_nested_too_deeply_is_a_finding(
    context: RecordingContext, project: Path, name: str, content: str
) -> None:
    (project / name).write_text(content)
    (finding,) = result_of(validate(context, name))["findings"]
    assert finding["message"]["text"] == "is nested too deeply"


def test_data_too_large_for_memory_is_a_finding(context: RecordingContext, project: Path) -> None:
    (project / "large.json").write_text("[" + "[]," * 20_000_000 + "[]]")
    context.settings = {"memory_bytes": 256 * 1024 * 1024}
    (finding,) = result_of(validate(context, "large.json"))["findings"]
    assert "more memory" in finding["message"]["text"]


def test_a_folder_is_checked_as_one(context: RecordingContext, project: Path) -> None:
    for folder in ("src/inner", "src/node_modules", "venv/bin"):
        (project / folder).mkdir(parents=True)
    (project / "src" / "app.py").write_text("import os\n")
    (project / "src" / "inner" / "bad.toml").write_text("=")
    (project / "src" / "node_modules" / "bad.json").write_text("{")
    (project / "bad.json").write_text("{")
    found = result_of(validate(context, "src"))["findings"]
    uris = [each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in found]
    assert uris == ["src/inner/bad.toml", "src/app.py"]


def test_the_workspace_itself_is_a_folder_and_virtualenvs_in_it_are_not_its_own(
    context: RecordingContext, project: Path
) -> None:
    (project / "env").mkdir()
    (project / "env" / "pyvenv.cfg").write_text("")
    (project / "env" / "bad.json").write_text("{")
    (project / "bad.json").write_text("{")
    assert len(result_of(validate(context, "."))["findings"]) == 1


def test_a_file_that_no_check_reads_says_so(context: RecordingContext, project: Path) -> None:
    (project / "README.md").write_text("# Hello\n")
    outcome = validate(context, "README.md", checks=EVERY_CHECK)
    assert isinstance(outcome, Succeeded)
    assert outcome.result["checks"] == {
        name: {"skipped": "it does not read .md files"} for name in EVERY_CHECK
    }


def test_too_many_findings_are_kept_in_a_file(context: RecordingContext, project: Path) -> None:
    count = MAX_SHOWN + 500
    (project / "app.py").write_text("import os\n" * count)
    outcome = validate(context, "app.py", checks=["lint"])
    result = result_of(outcome)
    assert result["truncated"] is True
    assert 100 < len(result["findings"]) <= MAX_SHOWN
    assert len(json.dumps(result)) < 512 * 1024
    sarif: Any = json.loads(context.kept("findings.sarif").read_text())
    assert context.artefacts == {"findings.sarif": "application/sarif+json"}
    everything = sarif["runs"][0]["results"]
    assert result["total"] == len(everything) >= count
    assert everything[: len(result["findings"])] == result["findings"]


def test_few_findings_need_no_file(context: RecordingContext, project: Path) -> None:
    (project / "app.py").write_text("import os\n")
    assert result_of(validate(context, "app.py"))["truncated"] is False
    assert context.artefacts == {}


def test_a_check_command_answers_by_its_exit_code(context: RecordingContext, project: Path) -> None:
    (project / "app.py").write_text("import os\n")
    outcome = validate(context, "app.py", check_command="ruff check --select F401")
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "ruff: exit code 1"
    result = result_of(outcome)
    assert result["command"] == "ruff check --select F401 app.py"
    assert "imported but unused" in result["output"]["head"]
    assert isinstance(
        validate(context, "app.py", check_command="ruff check --select E501 {path}"), Succeeded
    )


def test_a_check_command_sees_the_workspace_read_only(
    context: RecordingContext, project: Path
) -> None:
    (project / "test_write.py").write_text(
        "def test_write():\n    open('made.txt', 'w')\n", encoding="utf-8"
    )
    outcome = validate(
        context, "test_write.py", check_command="pytest -q -p no:cacheprovider -p no:django"
    )
    assert "Read-only file system" in result_of(outcome)["output"]["head"]
    assert [path.name for path in project.iterdir()] == ["test_write.py"]


def test_a_command_out_of_time_is_a_time_out(context: RecordingContext, project: Path) -> None:
    tools = project / "tools"
    tools.mkdir()
    (project / "Makefile").write_text("test:\n\techo begun; sleep 60\n")
    context.timeout = timedelta(seconds=1.5)
    outcome = validate(context, "tools", check_command="make test NAME={path}")
    assert isinstance(outcome, TimedOut), outcome
    assert "begun" in outcome.result["output"]["head"]


def test_a_tool_that_crashes_is_tried_again(context: RecordingContext, project: Path) -> None:
    (project / "app.py").write_text("")
    context.settings = {"memory_bytes": 20 * 1024 * 1024}
    outcome = validate(context, "app.py")
    assert isinstance(outcome, TryAgain)
    assert "ruff ended with exit code" in outcome.reason


@pytest.mark.parametrize("path", ["missing.py", "link.py", "pipe"])
def test_a_path_that_cannot_be_checked_is_rejected(
    context: RecordingContext, project: Path, path: str
) -> None:
    (project / "link.py").symlink_to("/etc/passwd")
    os.mkfifo(project / "pipe")
    outcome = validate(context, path)
    assert isinstance(outcome, Rejected)
    assert outcome.reason.startswith(path)


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({}, "path"),
        ({"path": "../x"}, "path"),
        ({"path": "a", "checks": ["lint", "nope"]}, "checks[1]"),
        ({"path": "a", "checks": []}, "checks"),
        ({"path": "a", "checks": "lint"}, "checks"),
        ({"path": "a", "checks": [["lint"]]}, "checks[0]"),
        ({"path": "a", "check_command": "rm -rf"}, "check_command"),
        ({"path": "a", "check_command": "ruff", "checks": ["lint"]}, "check_command"),
    ],
)
def test_a_bad_payload_names_its_field(payload: JSON, field: str) -> None:
    with pytest.raises(PayloadError) as caught:
        ValidationProcessor().validate(payload, {})
    assert caught.value.field == field


def test_defaults_are_written_into_the_payload() -> None:
    processor = ValidationProcessor()
    assert processor.validate({"path": "./a"}, {}) == {
        "path": "a",
        "checks": ["syntax", "lint", "format"],
    }
    assert processor.validate({"path": "a", "checks": ["security", "syntax", "syntax"]}, {}) == {
        "path": "a",
        "checks": ["syntax", "security"],
    }
    assert processor.replay_safe({}) is True
    assert processor.resources({}) == []

"""What an agent's task may say, what it needs, and which model a name means."""

from __future__ import annotations

from typing import Any

import pytest

from agents.coding.profile import OLLAMA, USUAL_WINDOW, Profile, find
from agents.contract import JSON, PayloadError
from agents.processors.agent import (
    LONGEST_DESCRIPTION,
    LONGEST_MODEL_NAME,
    MOST_LOOPS,
    AgentProcessor,
)

DESCRIPTION = "Let parse() accept an empty line."


def validated(settings: JSON | None = None, **payload: Any) -> JSON:
    return AgentProcessor().validate({"description": DESCRIPTION, **payload}, settings or {})


def test_what_is_not_said_has_the_documented_defaults() -> None:
    assert validated() == {
        "description": DESCRIPTION,
        "coder_model": "qwen2.5-coder:7b",
        "reviewer_model": "llama3.2",
        "check_command": "pytest -q",
        "max_loops": 16,
        "apply_changes": True,
    }


def test_a_null_leaves_out_the_review_or_the_check() -> None:
    checked = validated(reviewer_model=None, check_command=None)
    assert checked["reviewer_model"] is None
    assert checked["check_command"] is None


def test_validating_twice_changes_nothing() -> None:
    once = validated(check_command="pytest  -q 'tests/a b.py'", coder_model=" small ")
    assert once["check_command"] == "pytest -q 'tests/a b.py'"
    assert once["coder_model"] == "small"
    assert AgentProcessor().validate(once, {}) == once


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", None),
        ("description", " \n"),
        ("description", 7),
        ("description", "x" * (LONGEST_DESCRIPTION + 1)),
        ("coder_model", None),
        ("coder_model", ""),
        ("coder_model", "two\nlines"),
        ("coder_model", "x" * (LONGEST_MODEL_NAME + 1)),
        ("reviewer_model", " "),
        ("reviewer_model", ["llama3.2"]),
        ("check_command", ""),
        ("check_command", "rm -rf /"),
        ("check_command", "bash -c pytest"),
        ("check_command", 5),
        ("max_loops", 0),
        ("max_loops", MOST_LOOPS + 1),
        ("max_loops", True),
        ("max_loops", "16"),
        ("apply_changes", "yes"),
        ("apply_changes", None),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_field(field: str, value: object) -> None:
    with pytest.raises(PayloadError) as refused:
        validated(**{field: value})
    assert refused.value.field == field


def test_the_longest_values_are_taken() -> None:
    name = "x" * LONGEST_MODEL_NAME
    checked = validated(
        description="x" * LONGEST_DESCRIPTION, coder_model=name, max_loops=MOST_LOOPS
    )
    assert checked["coder_model"] == name


def test_the_allow_list_decides_about_the_check() -> None:
    with pytest.raises(PayloadError, match="allowed: just test"):
        validated({"allowed_commands": ["just test"]})
    assert validated({"allowed_commands": ["just test"]}, check_command="just test unit")


def test_a_task_needs_its_models_and_each_once() -> None:
    processor = AgentProcessor()
    assert processor.resources(validated()) == ["model:qwen2.5-coder:7b", "model:llama3.2"]
    assert processor.resources(validated(reviewer_model=None)) == ["model:qwen2.5-coder:7b"]
    assert processor.resources(validated(coder_model="a", reviewer_model="a")) == ["model:a"]
    assert processor.replay_safe(validated())


def test_a_name_without_a_profile_is_that_model_on_the_consoles_ollama() -> None:
    usual = Profile("llama3.2", "llama3.2", endpoint=OLLAMA, num_ctx=USUAL_WINDOW)
    assert find("llama3.2", {}) == usual
    assert find("llama3.2", {"models": {"llama3.2": {"num_ctx": None}}}) == usual
    elsewhere = find("llama3.2", {"ollama_base_url": "http://gpu:11434/v1/"})
    assert elsewhere.endpoint == "http://gpu:11434"
    assert elsewhere.protocol == "ollama"


def test_a_profile_says_how_its_model_is_reached() -> None:
    told = {
        "protocol": "openai",
        "endpoint": "http://gpu:8000/",
        "model": "Qwen/Qwen2.5-Coder-7B",
        "api_key": "secret",
        "max_tokens": 5,
    }
    found = find("big", {"models": {"big": told}, "ollama_base_url": "http://other:11434"})
    assert found == Profile(
        "big",
        "Qwen/Qwen2.5-Coder-7B",
        protocol="openai",
        endpoint="http://gpu:8000",
        api_key="secret",
        max_tokens=5,
    )
    assert found.resource == "model:big"


def test_a_profile_without_a_model_is_the_model_of_its_name() -> None:
    assert find("llama3.2", {"models": {"llama3.2": {"num_ctx": 8192}}}).model == "llama3.2"


def test_what_is_missing_is_said_with_the_command_that_brings_it() -> None:
    assert "`ollama pull llama3.2`" in find("llama3.2", {}).missing
    assert "`ollama serve`" in find("llama3.2", {}).unreachable

"""The allow-list, and how a command meets its path."""

from __future__ import annotations

import pytest

from agents.commands import for_path, parse_command
from agents.contract import PayloadError
from agents.limits import SandboxSettings

ALLOWED = ("pytest", "python -m pytest", "make test")


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("pytest", ["pytest"]),
        ("pytest -q 'a b'", ["pytest", "-q", "a b"]),
        ("python -m pytest tests", ["python", "-m", "pytest", "tests"]),
        (["make", "test", "X=1"], ["make", "test", "X=1"]),
    ],
)
def test_an_allowed_beginning_is_enough(command: object, argv: list[str]) -> None:
    assert parse_command(command, ALLOWED, "test_command") == argv


@pytest.mark.parametrize(
    "command",
    ["python -m http.server", "python", "make install", "make", "pytest-evil", "./pytest",
     "/tmp/pytest", "sh -c pytest", "PYTHONPATH=x pytest", "env pytest", "", "''", "pytest 'open",
     None, 3, ["pytest", 3], [], "pytest \0", "pytest \udcff", "pytest " + "x" * 4000],
)  # fmt: skip
def test_anything_else_is_refused(command: object) -> None:
    with pytest.raises(PayloadError) as caught:
        parse_command(command, ALLOWED, "test_command")
    assert caught.value.field == "test_command"


def test_a_refusal_says_what_is_allowed() -> None:
    with pytest.raises(PayloadError, match=r"rm -rf / is not allowed; allowed: pytest, python -m"):
        parse_command("rm -rf /", ALLOWED, "check_command")


def test_a_refusal_of_a_long_command_still_says_what_is_allowed() -> None:
    with pytest.raises(PayloadError, match=r"command: x{100}… is not allowed; allowed: pytest"):
        parse_command("x" * 4000, ALLOWED, "check_command")


def test_a_shell_s_signs_mean_nothing() -> None:
    argv = parse_command("pytest; rm -rf / | tee > $HOME && `id`", ("pytest;",), "check_command")
    assert argv == ["pytest;", "rm", "-rf", "/", "|", "tee", ">", "$HOME", "&&", "`id`"]
    with pytest.raises(PayloadError):
        parse_command("pytest; rm -rf /", ALLOWED, "check_command")


def test_a_path_goes_to_the_end_or_where_it_is_wanted() -> None:
    assert for_path(["pytest", "-q"], "a.py") == ["pytest", "-q", "a.py"]
    assert for_path(["make", "test", "ONLY={path}"], "a.py") == ["make", "test", "ONLY=a.py"]


def test_a_path_is_never_an_option() -> None:
    assert for_path(["pytest"], "-rf.py") == ["pytest", "./-rf.py"]


def test_settings_have_defaults_and_ignore_those_of_the_kind() -> None:
    assert SandboxSettings.from_settings({"something": "else"}) == SandboxSettings()
    settings = SandboxSettings.from_settings(
        {"allowed_commands": ["tox"], "network": True, "max_processes": 9}
    )
    assert (settings.allowed_commands, settings.network, settings.max_processes) == (
        ("tox",),
        True,
        9,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("network", "yes"), ("require_sandbox", 1), ("max_processes", 0), ("memory_bytes", "4G"),
     ("max_processes", True), ("allowed_commands", "pytest"), ("allowed_commands", [1])],
)  # fmt: skip
def test_a_setting_of_the_wrong_type_is_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        SandboxSettings.from_settings({name: value})

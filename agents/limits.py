"""What commands of a task may use, and which may run: every setting that the sandbox reads."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from agents.contract import JSON

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """Settings of a kind that hold for its commands. Sizes are bytes."""

    require_sandbox: bool = False
    """Refuse to run where only resource limits hold."""
    network: bool = False
    """Give commands the machine's network. Without it they have a loopback of their own."""
    allowed_commands: tuple[str, ...] = (
        "pytest",
        "python -m pytest",
        "python3 -m pytest",
        "python -m unittest",
        "python3 -m unittest",
        "ruff",
        "ty",
        "mypy",
        "pyright",
        "tox",
        "nox",
        "make test",
        "make check",
        "npm test",
        "cargo test",
        "go test",
    )
    """Beginnings of command lines; see ``agents.commands.parse_command``."""
    memory_bytes: int = 4 * GIB
    """Address space of each process (RLIMIT_AS)."""
    max_processes: int = 512
    """Processes and threads of one command together (RLIMIT_NPROC)."""
    max_open_files: int = 4096
    max_file_bytes: int = GIB
    """The largest file a command may write (RLIMIT_FSIZE)."""
    tmp_bytes: int = 512 * MIB
    """Size of the command's own /tmp, which lives in memory."""
    min_free_bytes: int = 512 * MIB
    """Free space that must be left on the disk of the attempt's folder; else it is stopped."""
    max_output_bytes: int = 256 * MIB
    """Output kept on disk; a command that prints more is stopped."""
    shown_output_bytes: int = 64 * KIB
    """Output shown from its beginning, and as much again from its end."""
    run_as_uid: int = 65534
    """Whom commands run as when the worker is root and root owns the workspace (nobody)."""

    @classmethod
    def from_settings(cls, settings: JSON) -> SandboxSettings:
        """Read the known keys; others belong to the kind itself.

        Raises:
            ValueError: names the setting whose value has the wrong type.
        """
        known: dict[str, Any] = {}
        for field in fields(cls):
            if field.name in settings:
                known[field.name] = _checked(field.name, settings[field.name], field.default)
        return replace(cls(), **known)


def _checked(name: str, value: object, default: object) -> object:
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(  # noqa: TRY004 - a setting's value, not an argument's type
                f"{name} must be true or false, not {value!r}"
            )
        return value
    if isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number above 0, not {value!r}")
        return value
    if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"{name} must be a list of strings, not {value!r}")
    return tuple(value)

"""The programs and variables a workspace's commands find. Built from nothing, never inherited."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from agents.contract import Environment, Workspace

SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin")
HOME = "/home/job"
TMPDIR = "/tmp"  # noqa: S108 - the command's own, empty at its start


class EnvironmentMissing(Exception):
    """The environment a workspace names is not on this machine."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Where commands look for programs, and the folders this makes visible to them, read-only."""

    name: str
    """What to call it to a person."""
    prefix: Path
    """The Python environment: the folder that holds ``bin``."""
    is_virtualenv: bool
    path: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def search_path(self) -> str:
        return os.pathsep.join((str(self.prefix / "bin"), *self.path, *SYSTEM_PATH))

    def which(self, program: str) -> Path | None:
        """The program's absolute path; names with a slash are not looked up."""
        found = shutil.which(program, path=self.search_path) if "/" not in program else None
        return Path(found) if found else None

    def environ(self) -> dict[str, str]:
        """Every variable of a command; the workspace's own win."""
        virtualenv = {"VIRTUAL_ENV": str(self.prefix)} if self.is_virtualenv else {}
        return {
            "PATH": self.search_path,
            "HOME": HOME,
            "LANG": "C.UTF-8",
            "TMPDIR": TMPDIR,
            **virtualenv,
            **self.variables,
        }

    def folders(self) -> list[Path]:
        """What must be visible at its own path: scripts of a virtualenv name it absolutely."""
        wanted = [self.prefix, *_base_of(self.prefix), *map(Path, self.path)]
        return [folder for folder in wanted if folder.is_dir() and not _is_system(folder)]


def of_workspace(workspace: Workspace) -> Toolchain:
    """The environment the workspace names, else its own ``.venv``, else the console's.

    Raises:
        EnvironmentMissing: it names one that is not there.
    """
    environment = workspace.environment
    if environment.virtualenv:
        prefix = Path(environment.virtualenv)
        if not (prefix / "bin").is_dir():
            raise EnvironmentMissing(
                f"the workspace {workspace.name} names the virtualenv {prefix}, "
                "which is not on this machine"
            )
        return _from(environment, f"the virtualenv {prefix}", prefix, is_virtualenv=True)
    own = workspace.root / ".venv"
    if (own / "bin").is_dir():
        if not own.resolve().is_relative_to(workspace.root):
            # What a workspace contains must not choose what else is visible to its commands.
            raise EnvironmentMissing(
                f"the .venv of the workspace {workspace.name} is a link that leads out of it; "
                "name the virtualenv in the workspace's environment instead"
            )
        return _from(environment, "the workspace's .venv", own, is_virtualenv=True)
    return _from(
        environment,
        f"the console's own environment, {sys.prefix}",
        Path(sys.prefix),
        is_virtualenv=sys.prefix != sys.base_prefix,
    )


def of_console() -> Toolchain:
    """The environment this process runs in: where ruff and ty come from."""
    return Toolchain(
        "the console's own environment", Path(sys.prefix), sys.prefix != sys.base_prefix
    )


def _from(environment: Environment, name: str, prefix: Path, *, is_virtualenv: bool) -> Toolchain:
    return Toolchain(name, prefix, is_virtualenv, environment.path, dict(environment.variables))


def _base_of(prefix: Path) -> list[Path]:
    """The folders of the installation a virtualenv was made from (PEP 405).

    A workspace writes its own ``.venv``, so only what is laid out as a Python installation is
    shown, and of it nothing beside its programs and libraries.
    """
    try:
        text = (prefix / "pyvenv.cfg").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    homes = [Path(value.strip()) for key, value in settings.items() if key.strip() == "home"]
    python = prefix / "bin" / "python"
    real = [python.resolve().parent] if python.exists() else []
    bases = dict.fromkeys(folder.parent for folder in (*homes, *real))
    return [
        base / part
        for base in bases
        if any(base.glob("lib/python3*/os.py"))
        for part in ("bin", "lib", "lib64", "include")
    ]


def _is_system(folder: Path) -> bool:
    return folder == Path("/") or folder.is_relative_to("/usr")

"""The commands of deploy/Dockerfile and deploy/compose.yaml, with everything they need here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
FILLED = {
    "POSTGRES_PASSWORD": "not-used",
    "REDIS_PASSWORD": "secret-of-redis",
    "FLOWER_BASIC_AUTH": "watcher:secret-of-flower",
}
"""What a person writes into env.example."""


def settings_file() -> dict[str, str]:
    """env.example, filled in."""
    text = (ROOT / "deploy/env.example").read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)) | FILLED


def compose() -> dict[str, Any]:
    """The services, with variables put in as Compose does: after the file was parsed."""
    text = (ROOT / "deploy/compose.yaml").read_text(encoding="utf-8")
    services: dict[str, Any] = interpolated(yaml.safe_load(text)["services"], settings_file())
    return services


VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::([-?])([^}]*))?\}")


def interpolated(tree: Any, values: dict[str, str]) -> Any:
    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        name, sign, rest = found.groups()
        if values.get(name):
            return values[name]
        assert sign == "-", f"{name} has no value"
        return str(rest)

    match tree:
        case dict():
            return {key: interpolated(part, values) for key, part in tree.items()}
        case list():
            return [interpolated(part, values) for part in tree]
        case str():
            return VARIABLE.sub(value, tree)
        case _:
            return tree


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, in order: the word and the rest."""
    text = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(word, rest.strip()) for word, rest in lines]


def last(word: str) -> str:
    return [rest for found, rest in instructions() if found == word][-1]


def words(rest: str) -> list[str]:
    """The command in exec form that ends an instruction."""
    listed: list[str] = json.loads(rest[rest.index("[") :])
    return listed


@dataclass(frozen=True)
class Container:
    """A service's command, environment and health check, for this machine."""

    command: list[str]
    environment: dict[str, str]
    health: list[str]
    folder: Path

    def start(self, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            return subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Another command in it, to its end."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    @property
    def healthy(self) -> bool:
        return self.run(*self.health).returncode == 0


class Image:
    """What the Dockerfile copies, in a folder that takes the place of /app."""

    def __init__(self, folder: Path, replaced: dict[str, str]) -> None:
        self.app = folder / "app"
        self.replaced = {"/app": str(self.app), "/data": str(folder / "data"), **replaced}
        """What is elsewhere here: addresses and folders."""
        for word, rest in instructions():
            if word == "COPY" and not rest.startswith("--from"):
                self._copy(*rest.split())
        self._install()

    def _copy(self, source: str, target: str) -> None:
        place = self.app / target
        if (ROOT / source).is_dir():
            # With what was compiled, as the image has it.
            shutil.copytree(ROOT / source, place)
            return
        if target.endswith("/"):
            place /= Path(source).name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / source, place)

    def _install(self) -> None:
        """The environment of the tests, as if it had been installed there."""
        (self.app / ".venv").mkdir()
        for name in ("bin", "lib", "pyvenv.cfg"):
            (self.app / ".venv" / name).symlink_to(Path(sys.prefix) / name)
        shutil.copy(self.app / "requirements.lock", self.app / ".venv/installed.lock")

    def here(self, text: str) -> str:
        for there, here in self.replaced.items():
            text = text.replace(there, here)
        return text

    def container(self, name: str, **environment: str) -> Container:
        service = compose()[name]
        told = {"PATH": "$PATH"}
        if "build" in service:
            told |= dict(pair.split("=", 1) for pair in last("ENV").split()) | settings_file()
        told |= service.get("environment", {})
        told = {key: self.here(str(value)) for key, value in told.items()}
        told["PATH"] = told["PATH"].replace("$PATH", os.environ["PATH"])
        return Container(
            [self.here(word) for word in service.get("command") or words(last("CMD"))],
            told | environment,
            self._health(service),
            self.app,
        )

    def _health(self, service: dict[str, Any]) -> list[str]:
        check = service.get("healthcheck")
        if check is None:
            return [self.here(word) for word in words(last("HEALTHCHECK"))]
        if check.get("disable"):
            return ["true"]
        form, *rest = check["test"]
        rest = [self.here(word) for word in rest]
        return ["sh", "-c", *rest] if form == "CMD-SHELL" else rest

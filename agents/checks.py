"""The built-in checks: which tool answers each, how it is called and how its answer is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from agents import findings, parse_data
from agents.bubblewrap import Mounts, View
from agents.contract import JSON
from agents.launch import Command
from agents.sandbox import Finished, Sandbox
from agents.toolchain import Toolchain, of_console

CHECKS = ("syntax", "lint", "format", "types", "security")
DEFAULT_CHECKS = ("syntax", "lint", "format")
"""What a project's own configuration of ruff decides. Types need the project's dependencies and
security its judgement, so both are asked for."""
PYTHON_SUFFIXES = (".py", ".pyi", ".pyw", ".ipynb")
INVALID_SYNTAX = "invalid-syntax"


class ToolFailed(Exception):
    """A tool crashed or answered what cannot be read."""


class Misconfigured(Exception):
    """The project's own configuration of a tool is wrong; the text is the tool's."""


class OutOfTime(Exception):
    """A tool did not end within the attempt's time."""


class OutputTooLarge(Exception):
    """A tool printed more than is kept."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is checked: ``path`` as the user spelled it, relative to the view's root."""

    view: View
    path: str
    is_folder: bool

    @property
    def argument(self) -> str:
        return f"./{self.path}" if self.path.startswith("-") else self.path

    @property
    def is_python(self) -> bool:
        return self.is_folder or Path(self.path).suffix.lower() in PYTHON_SUFFIXES

    @property
    def is_lintable(self) -> bool:
        """ruff's linter has rules for one file that is not Python."""
        return self.is_python or Path(self.path).name == "pyproject.toml"

    @property
    def is_data(self) -> bool:
        return self.is_folder or bool(parse_data.kind_of(self.path))


@dataclass(frozen=True, slots=True)
class Tools:
    """Runs the console's own tools on a workspace."""

    sandbox: Sandbox
    workdir: Path
    toolchain: Toolchain
    """The workspace's, in which types are looked up."""

    def ruff_syntax(self, target: Target, timeout: timedelta) -> Iterator[JSON]:
        # Broken syntax is reported whatever is selected; E902 says that a file cannot be read.
        return self._ruff_check(["--select", "E902"], target, timeout)

    def ruff_lint(self, target: Target, timeout: timedelta) -> Iterator[JSON]:
        """Findings by the project's own rules."""
        return self._ruff_check([], target, timeout)

    def ruff_lint_files(
        self, view: View, paths: Sequence[str], timeout: timedelta
    ) -> Iterator[JSON]:
        """The same of several files, less those that the project excludes."""
        first, *others = [Target(view, path, is_folder=False) for path in paths]
        return self._ruff(["check", "--force-exclude"], first, timeout, others)

    def ruff_security(self, target: Target, timeout: timedelta) -> Iterator[JSON]:
        """Findings by the rules of flake8-bandit, whatever the project selects."""
        return self._ruff_check(["--select", "S"], target, timeout)

    def ruff_format(self, target: Target, timeout: timedelta) -> Iterator[JSON]:
        """What the formatter would change."""
        return self._ruff(["format", "--check"], target, timeout)

    def _ruff_check(self, select: list[str], target: Target, timeout: timedelta) -> Iterator[JSON]:
        return self._ruff(["check", *select], target, timeout)

    def _ruff(
        self, words: list[str], target: Target, timeout: timedelta, others: Sequence[Target] = ()
    ) -> Iterator[JSON]:
        """``others`` are looked at with it, in the same view."""
        answer = self.workdir / "ruff.jsonl"
        words += ["--no-cache", "--output-format", "json-lines", "--", target.argument]
        words += [other.argument for other in others]
        finished = self._run("ruff", words, target, timeout, answer)
        # The formatter ends with 2 over a file it cannot parse, and reports that as a finding.
        if finished.exit_code not in {0, 1} and not answer.stat().st_size:
            raise _failure("ruff", finished)
        with answer.open(encoding="utf-8") as lines:
            for line in lines:
                yield _from_ruff(_json("ruff", line), target.view.root)

    def ty(self, target: Target, timeout: timedelta) -> Iterator[JSON]:
        """Findings of the type checker, with the workspace's environment."""
        answer = self.workdir / "ty.sarif"
        words = ["check", "--no-progress", "--output-format", "sarif", "--python"]
        words += [str(self.toolchain.prefix), "--", target.argument]
        finished = self._run("ty", words, target, timeout, answer)
        if finished.exit_code not in {0, 1}:
            raise _failure("ty", finished)
        report = _json("ty", answer.read_text(encoding="utf-8"))
        for found in report["runs"][0]["results"]:
            place = found["locations"][0]["physicalLocation"]
            path = Path(unquote(urlsplit(place["artifactLocation"]["uri"]).path))
            yield findings.result(
                "ty",
                found["ruleId"],
                found["message"]["text"],
                str(path.relative_to(target.view.root)),
                place.get("region"),
                found["level"],
            )

    def parse(self, target: Target, timeout: timedelta) -> Iterator[JSON]:
        """What does not parse among JSON, TOML and YAML files."""
        answer = self.workdir / "parsed.jsonl"
        program = parse_data.__file__
        words = ["-I", program, target.argument]
        finished = self._run("python", words, target, timeout, answer, Path(program))
        reading, done = target.path, False
        with answer.open(encoding="utf-8") as lines:
            for line in lines:
                said = _json("the parser", line)
                reading, done = said.get("reading", reading), "done" in said
                if "rule" in said:
                    place = {"startLine": said["line"], "startColumn": said["column"]}
                    region = place if said["line"] else None
                    yield findings.result(
                        "parse", said["rule"], said["message"], said["path"], region
                    )
        if not done and finished.exit_code <= 128:
            raise _failure("the parser", finished)
        if not done:
            text = "cannot be parsed: reading it ended the parser; what follows it was not read"
            rule = f"invalid-{parse_data.kind_of(reading)}"
            yield findings.result("parse", rule, text, str(Path(reading)), None)

    def _run(
        self,
        program: str,
        words: list[str],
        target: Target,
        timeout: timedelta,
        answer: Path,
        *visible: Path,
    ) -> Finished:
        console = of_console()
        found = console.which(program)
        if found is None:
            raise ToolFailed(f"{program} is not installed in {console.name}; install it there")
        command = Command(
            [str(found), *words],
            target.view,
            console,
            output=answer,
            merged=False,
            mounts=Mounts(visible=[*self.toolchain.folders(), *visible]),
        )
        finished = self.sandbox.run(command, timeout)
        if finished.timed_out:
            raise OutOfTime(f"{program} did not end in time")
        if finished.overflowed:
            raise OutputTooLarge(f"{program} printed more than is kept")
        return finished


def _failure(tool: str, finished: Finished) -> Exception:
    heard = finished.errors.text.strip()
    if finished.exit_code == 2 and heard.startswith(f"{tool} failed") and "Cause:" in heard:
        return Misconfigured(heard)
    return ToolFailed(f"{tool} ended with exit code {finished.exit_code}: {heard[-2000:]}")


def _json(tool: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ToolFailed(f"{tool} answered what cannot be read ({error}): {text[:200]}") from None


def _from_ruff(found: JSON, root: Path) -> JSON:
    path = str(Path(found["filename"]).relative_to(root))
    region = None
    if start := found["location"]:
        end = found["end_location"] or start
        region = {
            "startLine": start["row"],
            "startColumn": start["column"],
            "endLine": end["row"],
            "endColumn": end["column"],
        }
    rule = found["code"] or INVALID_SYNTAX
    made = findings.result("ruff", rule, found["message"], path, region, found["severity"])
    if found["cell"] is not None:
        made["properties"]["cell"] = found["cell"]
    return made

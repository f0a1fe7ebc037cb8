"""Faults as patches, each with the tests that must fall when it is in the code.

Above its diff a patch has ``# fault:`` with one sentence and ``# falls:`` for each such test.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTEST = ("-q", "-rfE", "--tb=line", "-p", "no:cacheprovider", "-p", "tests.faults.unshrunk")


@dataclass(frozen=True)
class Fault:
    patch: Path
    sentence: str
    falls: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.patch.stem

    @property
    def needs_postgres(self) -> bool:
        return any(test.startswith("tests/services/") for test in self.falls)


def faults() -> list[Fault]:
    return [_read(patch) for patch in sorted(Path(__file__).parent.glob("*.patch"))]


def _read(patch: Path) -> Fault:
    found: dict[str, list[str]] = {"fault": [], "falls": []}
    for line in patch.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        key, _, value = line[2:].partition(": ")
        found[key].append(value)
    [sentence] = found["fault"]
    return Fault(patch, sentence, tuple(found["falls"]))


def copy_tree(to: Path) -> None:
    """The files of the working tree as they are, but for those that git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (source := ROOT / name).is_file():
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def apply(fault: Fault, tree: Path, *, check: bool = False) -> str:
    """Apply a patch to a tree, or only see whether it would; returns what git has against it."""
    command = ["git", "apply", *(["--check"] if check else []), str(fault.patch)]
    # Without a repository around it, or git would look for the files from that one's top.
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "GIT_CEILING_DIRECTORIES": str(tree.parent),
    }
    done = subprocess.run(
        command, cwd=tree, env=environment, check=False, capture_output=True, text=True
    )
    return done.stderr.strip() if done.returncode else ""


def fall(tree: Path, tests: Iterable[str], database: str) -> set[str]:
    """Which of the tests fall in a tree.

    Raises:
        SystemExit: pytest could not run them.
    """
    environment = {name: value for name, value in os.environ.items() if name != "DATA_DIR"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *PYTEST, *tests],
        cwd=tree,
        env={**environment, "DATABASE_URL": database, "COLUMNS": "1000", "CI": "true"},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 1):
        sys.exit(
            f"pytest ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        )
    return set(re.findall(r"^FAILED ([^\s\[]+)", done.stdout, re.MULTILINE))

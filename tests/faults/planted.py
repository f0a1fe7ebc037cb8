"""Faults as patches, each with the tests that must fall when it is in the code.

Above its diff a patch has ``# fault:`` with one sentence and ``# falls:`` for each such test.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


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

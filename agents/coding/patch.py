"""A change as a text: what git diff --binary writes, and what a person reviews."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

from agents.contract import JSON

Status = Literal["added", "modified", "deleted"]
SECTION = re.compile(r"^(?=diff --git )", re.MULTILINE)
INDEX = re.compile(r"^index ([0-9a-f]{40,64})\.\.([0-9a-f]{40,64})(?: [0-7]{6})?$", re.MULTILINE)
BODY = re.compile(r"^(?:@@ |GIT binary patch$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file of a patch; ``path`` is relative to the workspace."""

    path: str
    status: Status
    added: int
    """Lines; 0 where the file is binary."""
    removed: int
    binary: bool

    def as_json(self) -> JSON:
        return {
            "path": self.path,
            "status": self.status,
            "added": self.added,
            "removed": self.removed,
            "binary": self.binary,
        }


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch on ``base_commit`` (empty where the workspace is no repository).

    ``text`` is valid UTF-8 without NUL: files that are not are in it in git's binary form. Paths
    are relative to the workspace.
    """

    text: str
    base_commit: str
    files: tuple[FileChange, ...] = ()
    """In the order of the text; empty where only the text is known."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def is_empty(self) -> bool:
        return not self.text.strip()

    def sections(self) -> list[str]:
        """The text of each file in turn.

        No line of a hunk begins like a header: each has a sign or a length in front.
        """
        return [part for part in SECTION.split(self.text) if part.startswith("diff --git ")]


def preimage(section: str) -> str | None:
    """The blob the section begins from, all zeros for a new file; None where it does not say."""
    head = BODY.split(section, maxsplit=1)[0]
    found = INDEX.search(head)
    return found[1] if found else None

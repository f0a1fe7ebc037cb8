"""A patch on a tree that may have changed since: three-way, file by file, all or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.coding.git import GitFailed
from agents.coding.patch import Patch, preimage
from agents.coding.store import Change, Store, Version

LONGEST_HUNKS = 20_000
"""Characters of a conflict that are kept."""
MARKERS = ("<<<<<<< ", ">>>>>>> ")
AROUND = 3
"""Lines shown before and after each conflict."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Where a patch does not fit; ``hunks`` is for a person to read."""

    path: str
    reason: str
    hunks: str

    def as_json(self) -> dict[str, str]:
        return {"path": self.path, "reason": self.reason, "hunks": self.hunks[:LONGEST_HUNKS]}


@dataclass(frozen=True, slots=True)
class Merged:
    """``tree`` is what it was unless the patch changes it; it holds nothing of a conflict."""

    tree: str
    conflicts: tuple[Conflict, ...]


class _Unfit(Exception):
    def __init__(self, reason: str, hunks: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hunks = hunks


class Merge:
    """One patch on one tree. Paths of the tree begin with ``inside``, those of the patch do not."""

    def __init__(self, store: Store, ours: str, patch: Patch, inside: str) -> None:
        self._store = store
        self._ours = ours
        self._inside = inside
        self._sections = patch.sections()
        self._conflicts: list[Conflict] = []
        self._versions: dict[str, Version | None] = {}

    def done(self) -> Merged:
        """The tree with the patch.

        What the tree has of the patch already is left as it is. A file whose beginning nobody has
        any more is patched by its context alone.
        """
        known, unknown = self._by_preimage()
        try:
            changes = self._three_way_changes(known) if known else []
        except GitFailed as error:
            conflict = Conflict("", f"git cannot read the patch: {error}", "".join(known))
            return Merged(self._ours, (conflict,))
        self._take(changes)
        for section in unknown:
            self._by_context(section)
        if self._conflicts or not self._versions:
            return Merged(self._ours, tuple(self._conflicts))
        return Merged(self._store.changed(self._ours, self._versions, "merged"), ())

    def _by_preimage(self) -> tuple[list[str], list[str]]:
        """The sections whose file, as they begin from it, is among the objects; and the others."""
        blobs = [preimage(section) for section in self._sections]
        wanted = [blob for blob in blobs if blob and blob.strip("0")]
        given = "".join(f"{blob}\n" for blob in wanted).encode()
        listed = self._store.run("cat-file", "--batch-check", given=given).decode().splitlines()
        there = {line.split(" ")[0] for line in listed if not line.endswith(" missing")}
        known: list[str] = []
        unknown: list[str] = []
        for section, blob in zip(self._sections, blobs, strict=True):
            fits = blob is not None and (blob in there or not blob.strip("0"))
            (known if fits else unknown).append(section)
        return known, unknown

    def _three_way_changes(self, sections: Sequence[str]) -> list[Change]:
        return self._store.changes(*self._store.sides("".join(sections), self._inside))

    def _take(self, changes: Iterable[Change]) -> None:
        ours = self._store.files(self._ours)
        folders = {str(parent) for path in ours for parent in Path(path).parents}
        for change in changes:
            mine = ours.get(change.path)
            try:
                if change.after:
                    _check_name(change.path, ours, folders)
                merged = self._merged(change, mine)
            except _Unfit as unfit:
                hunks = unfit.hunks or self._text_of(change.path)
                self._conflicts.append(Conflict(self._shown(change.path), unfit.reason, hunks))
            else:
                if merged != mine:
                    self._versions[change.path] = merged

    def _merged(self, change: Change, ours: Version | None) -> Version | None:
        base, theirs = change.before, change.after
        for version in (base, ours, theirs):
            if version and not version.is_file:
                raise _Unfit("it is a link or a submodule, which patches may not change")
        if ours in (theirs, base):
            return theirs
        if ours is None:
            raise _Unfit("it was deleted meanwhile")
        if theirs is None:
            raise _Unfit("the patch deletes it, and it was changed meanwhile")
        mode = theirs.mode if base is None or theirs.mode != base.mode else ours.mode
        if ours.blob == theirs.blob or (base and base.blob == theirs.blob):
            return Version(mode, ours.blob)
        return Version(mode, self._merged_blob(base.blob if base else None, ours.blob, theirs.blob))

    def _merged_blob(self, base: str | None, ours: str, theirs: str) -> str:
        mine, his, *before = self._store.blobs(*filter(None, (ours, theirs, base)))
        texts = [mine, before[0] if before else b"", his]
        if any(b"\0" in text for text in texts):
            raise _Unfit("it is binary, and was changed meanwhile")
        if b"\r\n" in texts[0] and not any(b"\r\n" in text for text in texts[1:]):
            # An editor or a setting of the user's changed the line ends: a change of every line.
            texts[1:] = [text.replace(b"\n", b"\r\n") for text in texts[1:]]
        code, merged = self._store.merged_file(*texts)
        if code:
            raise _Unfit("both changed the same lines", conflicting(os.fsdecode(merged)))
        return self._store.keep(merged)

    def _by_context(self, section: str) -> None:
        """Without its beginning there is no third side: the lines around a hunk must be there."""
        path = self._store.paths(section, self._inside)[0]
        try:
            self._store.read(self._ours, "context")
            self._store.apply(section, self._inside, "context")
        except GitFailed as error:
            if not self._is_there(section):
                reason = f"its lines are not there: {error}"
                self._conflicts.append(Conflict(self._shown(path), reason, section))
            return
        self._take(self._store.changes(self._ours, self._store.tree_of("context")))

    def _is_there(self, section: str) -> bool:
        try:
            self._store.read(self._ours, "context")
            self._store.apply(section, self._inside, "context", "--reverse")
        except GitFailed:
            return False
        return True

    def _text_of(self, path: str) -> str:
        shown = self._shown(path)
        named = (f" b/{shown}\n", f' "b/{shown}"\n')
        return "".join(
            section
            for section in self._sections
            if f"{section.split(chr(10), 1)[0]}\n".endswith(named)
        )

    def _shown(self, path: str) -> str:
        return path.removeprefix(f"{self._inside}/") if self._inside else path


def _check_name(path: str, ours: dict[str, Version], folders: set[str]) -> None:
    if path in folders:
        raise _Unfit("a folder has its name")
    if any(str(parent) in ours for parent in Path(path).parents):
        raise _Unfit("a file has the name of its folder")


def conflicting(text: str) -> str:
    """The parts of a merged text that are in conflict, with some lines around each."""
    lines = text.splitlines()
    shown: dict[int, str] = {}
    opened = None
    for number, line in enumerate(lines):
        if line.startswith(MARKERS[0]):
            opened = number
        elif line.startswith(MARKERS[1]) and opened is not None:
            around = range(max(0, opened - AROUND), min(len(lines), number + 1 + AROUND))
            shown |= {n: lines[n] for n in around}
            opened = None
    parts = []
    for number, line in shown.items():
        if number - 1 not in shown:
            parts.append(f"@@ line {number + 1} @@")
        parts.append(line)
    return "\n".join(parts)

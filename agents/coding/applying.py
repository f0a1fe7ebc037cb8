"""Applying a patch to the workspace itself: three-way with what is there now, all of it or nothing,
and so that a kill at any moment leaves it whole once somebody comes after.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agents.coding.git import GitFailed, StartConflict
from agents.coding.journal import MARKER, PLAIN_PRIVATE, Journal, Write
from agents.coding.merging import Conflict as Unfit
from agents.coding.merging import Merge
from agents.coding.origin import Origin, finish_what_was_begun
from agents.coding.patch import Patch
from agents.coding.placing import Found, NotPlain, Place, made_for, sha256
from agents.coding.store import Change
from agents.contract import JSON, PayloadError, ProcessorContext
from agents.paths import checked_spelling
from agents.sandbox import Sandbox

EFFECT = "apply"
ATTRIBUTES = ".gitattributes"
EXECUTABLE = "100755"
PRIVATE_NAMES = (".git", PLAIN_PRIVATE, MARKER)


@dataclass(frozen=True, slots=True)
class Applied:
    """The workspace has the patch; ``already`` where it had it before."""

    status: Literal["applied", "already"]
    files: tuple[str, ...]
    """What was written or removed; empty where it was there already."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """The patch does not fit on what is there now; nothing was written.

    Unless somebody changed a file in the very moment of writing: then ``files`` says what has it.
    """

    conflicts: tuple[Unfit, ...]
    files: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        count = len(self.conflicts)
        return f"does not apply: {count} {'file conflicts' if count == 1 else 'files conflict'}"

    def as_json(self) -> list[JSON]:
        return [unfit.as_json() for unfit in self.conflicts]


def apply(
    patch: Patch,
    start: Sequence[JSON],
    context: ProcessorContext,
    sandbox: Sandbox,
    origin: Origin | None = None,
) -> Applied | Conflict:
    """Bring the patch into the workspace.

    Announced as an effect before the first byte is written, and only where there is one to write.
    ``origin`` is where the patch's own attempt began, if this is it.

    Raises:
        EffectRefused: it must not be done by this attempt any more.
        WorkspaceMissing, RepositoryRefused, GitFailed, OSError: it cannot be done here.
    """
    if patch.is_empty:
        return Applied("already", ())
    plan = _Plan.of_attempt(patch, start, context, sandbox, origin)
    seen = plan.outcome()
    if not isinstance(seen, _Ready):
        return seen
    context.effect(EFFECT, exclusive=True)
    with Journal.of(plan.origin.root) as written:
        ready = plan.outcome()
        if not isinstance(ready, _Ready):
            return ready
        left = written.write(ready.writes, ready.contents)
    files = tuple(write.path for write in ready.writes if write.path not in left)
    context.record("applied", files=list(files), patch=patch.sha256)
    if left:
        reason = "it was changed in the moment of writing"
        return Conflict(tuple(Unfit(path, reason, patch.text) for path in left), files)
    return Applied("applied", files)


@dataclass(frozen=True, slots=True)
class _Ready:
    writes: tuple[Write, ...]
    contents: dict[str, bytes]


class _Plan:
    """What to write, computed from the workspace as it is at the moment of asking."""

    def __init__(self, origin: Origin, patch: Patch, owner: tuple[int, int]) -> None:
        self.origin = origin
        self._patch = patch
        self._owner = owner
        self._place = Place(origin.root)
        self._looks = 0
        self._seen: tuple[dict[str, Found | None], _Ready | Applied | Conflict] | None = None
        """What the last answer was given for, and the answer."""

    @classmethod
    def of_attempt(
        cls,
        patch: Patch,
        start: Sequence[JSON],
        context: ProcessorContext,
        sandbox: Sandbox,
        origin: Origin | None,
    ) -> _Plan:
        if origin:
            finish_what_was_begun(origin.root, context)
            return cls(origin, patch, sandbox.user_for(origin.root))
        based = [*start, {"base_commit": patch.base_commit, "patch": ""}]
        origin = Origin.of_attempt(context, sandbox, based)
        if origin.base_tree and start:
            try:
                # For the files the patch begins from, which nobody has kept.
                origin.started(origin.base_tree, start)
            except StartConflict as error:
                context.record("apply", level="warning", message=str(error))
        return cls(origin, patch, sandbox.user_for(origin.root))

    def outcome(self) -> _Ready | Applied | Conflict:
        try:
            paths = self._paths()
        except (GitFailed, PayloadError) as error:
            return Conflict((Unfit("", f"the patch cannot be read: {error}", self._patch.text),))
        found: dict[str, Found | None] = {}
        unfit = []
        for path in paths:
            try:
                found[path] = self._place.found(path)
                self._place.refuse_if_closed(path)
            except (NotPlain, PermissionError) as error:
                unfit.append(Unfit(path, str(error), self._patch.text))
        if unfit:
            return Conflict(tuple(unfit))
        if self._seen is None or self._seen[0] != found:
            self._seen = found, self._merged(found)
        return self._seen[1]

    def _paths(self) -> list[str]:
        """The paths of the patch, each a place inside the workspace that may be written."""
        paths = []
        for named in self.origin.store.paths(self._patch.text):
            path = checked_spelling(named)
            if any(part.lower() in PRIVATE_NAMES for part in Path(path).parts):
                raise PayloadError(path, "is no place to write to")
            paths.append(path)
        return list(dict.fromkeys(paths))

    def _merged(self, found: dict[str, Found | None]) -> _Ready | Applied | Conflict:
        store, inside = self.origin.store, self.origin.inside
        self._looks += 1
        folder = made_for(self.origin.folder / f"look-{self._looks}", self._owner)
        ours, results = (
            made_for(folder / "ours", self._owner),
            made_for(folder / "new", self._owner),
        )
        try:
            self._lay_out(found, ours)
            mine = store.snapshot(f"ours-{self._looks}", ours, "--force")
            merged = Merge(store, mine, self._patch, inside).done()
            if merged.conflicts:
                return Conflict(merged.conflicts)
            changes = store.changes(mine, merged.tree)
            store.check_out(merged.tree, "new", results)
            writes, contents = [], {}
            for change in changes:
                path = change.path.removeprefix(f"{inside}/") if inside else change.path
                if change.after:
                    contents[path] = (results / change.path).read_bytes()
                writes.append(_write(path, change, found[path], contents.get(path)))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if not writes:
            return Applied("already", ())
        return _Ready(tuple(writes), contents)

    def _lay_out(self, found: dict[str, Found | None], folder: Path) -> None:
        """Copies of the files for git to read, with what decides about their line ends."""
        place = self._place
        if self.origin.repository and self.origin.inside:
            above = Place(self.origin.repository.top)
            for parent in Path(self.origin.inside).parents:
                with contextlib.suppress(NotPlain):
                    _lay(folder / parent / ATTRIBUTES, above.found(str(parent / ATTRIBUTES)))
        for path in {str(parent / ATTRIBUTES) for name in found for parent in Path(name).parents}:
            if path not in found:
                with contextlib.suppress(NotPlain):
                    _lay(folder / self.origin.inside / path, place.found(path))
        for path, file in found.items():
            _lay(folder / self.origin.inside / path, file)


def _lay(path: Path, file: Found | None) -> None:
    if file:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(0o755 if file.mode & 0o100 else 0o644)


def _write(path: str, change: Change, before: Found | None, after: bytes | None) -> Write:
    was, becomes = change.before, change.after
    mode = before.mode if before else 0o644
    if becomes and (was is None or was.mode != becomes.mode):
        # Whoever may read it may run it; or nobody may.
        mode = mode | (mode & 0o444) >> 2 if becomes.mode == EXECUTABLE else mode & ~0o111
    return Write(
        path, before.sha256 if before else None, None if after is None else sha256(after), mode
    )

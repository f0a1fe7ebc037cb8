"""The difference of two trees as a patch that JSON and every database can keep."""

from __future__ import annotations

from agents.coding.git import ChangeRefused
from agents.coding.patch import FileChange, Patch, Status
from agents.coding.store import DIFF, Store

LARGEST_PATCH = 16 * 1024 * 1024
"""Characters of a patch: it is kept with the task, and read by a person."""
STATUSES: dict[str, Status] = {"A": "added", "D": "deleted"}


def difference(store: Store, before: str, after: str, inside: str, base_commit: str) -> Patch:
    """The patch from one tree to the other, with paths relative to ``inside``.

    Raises:
        ChangeRefused: it is too large, or names a file whose name is not text.
    """
    words = [*DIFF, *([f"--relative={inside}/"] if inside else [])]
    listing = [*words, "--raw", "--numstat", "-z", before, after]
    words += ["--binary", before, after]
    listed, written = store.run_all(listing, words)
    try:
        files = _file_changes(listed.decode())
    except UnicodeDecodeError:
        raise ChangeRefused("the name of a changed file is not valid UTF-8") from None
    text = _storable(written)
    if text is None:
        folder = f"{inside}/" if inside else ""
        text = "".join(_section(store, words, f"{folder}{file.path}") for file in files)
    if len(text) > LARGEST_PATCH:
        raise ChangeRefused(
            f"the change is a patch of {len(text):,} characters; {LARGEST_PATCH:,} can be kept"
        )
    return Patch(text, base_commit, files)


def _section(store: Store, words: list[str], path: str) -> str:
    """One file's part of a patch, in git's binary form where its text is not storable."""
    wanted = [*words, "--", f":(top,literal){path}"]
    text = _storable(store.run(*wanted))
    if text is None:
        with store.every_file_binary():
            text = _storable(store.run(*wanted))
    if text is None:
        raise ChangeRefused(f"the change of {path} cannot be written as a text")
    return text


def _storable(text: bytes) -> str | None:
    try:
        return None if b"\0" in text else text.decode()
    except UnicodeDecodeError:
        return None


def _file_changes(listed: str) -> tuple[FileChange, ...]:
    """From ``git diff --raw --numstat -z``: first the one kind of line for all, then the other."""
    words = listed.split("\0")[:-1]
    raw = [n for n, word in enumerate(words) if word.startswith(":")]
    statuses = {words[n + 1]: words[n].rpartition(" ")[2] for n in raw}
    changes = []
    for line in words[2 * len(raw) :]:
        added, removed, path = line.split("\t", 2)
        binary = added == "-"
        status = STATUSES.get(statuses[path], "modified")
        changes.append(
            FileChange(
                path, status, 0 if binary else int(added), 0 if binary else int(removed), binary
            )
        )
    return tuple(changes)

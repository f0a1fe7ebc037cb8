"""The tools with which a model reads and changes the files of its copy."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from agents.coding import searching
from agents.coding.answers import by_folder, fitting, matches, one_line, wanted
from agents.coding.enclosure import Enclosure
from agents.coding.reaching import Reach
from agents.coding.refusals import Blocked, LimitExceeded, ToolRefused
from agents.coding.text_file import TextFile, numbered
from agents.limits import KIB, MIB
from agents.toolchain import of_console

LARGEST_READ = 8 * MIB
"""Bytes of a file that is opened at all."""
LONGEST_EXPRESSION = 1000
UNSEEN_FOLDERS = (
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache",
    ".pytest_cache", ".ruff_cache", ".tox", ".nox", ".eggs",
)  # fmt: skip
"""Neither listed nor searched: what tools made, which is not the project's."""


@dataclass(frozen=True, slots=True)
class EditLimits:
    """What one attempt may change, and how much one answer shows."""

    max_files: int = 50
    max_bytes: int = MIB
    """Written by the tools, all calls together."""
    shown_bytes: int = 16 * KIB
    """Characters of one answer: a part of what a small model can hold."""
    shown_entries: int = 400
    shown_matches: int = 100
    search_time: timedelta = timedelta(seconds=10)


class CopyFiles:
    """The file tools of one attempt.

    Each raises ``ToolRefused`` with what the model is to be told, and ``LimitExceeded`` when the
    attempt has changed all it may. ``blocked`` counts what the guardrail stopped.
    """

    def __init__(self, enclosure: Enclosure, limits: EditLimits) -> None:
        self.blocked = 0
        self.changed: set[str] = set()
        """Paths that were written, wherever their content is by now."""
        self.bytes_written = 0
        self._enclosure = enclosure
        self._limits = limits
        self._reach = Reach(enclosure.folder, enclosure.root)

    def list_files(self, path: str = ".", pattern: str = "") -> str:
        """List the files below a folder, one path a line.

        ``pattern`` has shell wildcards, such as ``*.py``, and is matched against each file's name
        and path.
        """
        with self._guarded():
            spelled = self._reach.leads_to(self._reach.spelled(path))
            found = [name for name in self._below(spelled) if wanted(name, pattern)]
        if not found:
            return f"no files {f'match {pattern} ' if pattern else ''}in {path}"
        if len(found) > self._limits.shown_entries:
            return by_folder(found, spelled, self._limits.shown_entries)
        secrets = self._enclosure.secrets
        return "\n".join(f"{name} (secret)" if secrets.match(name) else name for name in found)

    def read_file(self, path: str, start_line: int = 1, end_line: int | None = None) -> str:
        """Read a text file, or a range of its lines, counted from 1, both ends included.

        Each line comes with its number and a tab, which are not part of the file.
        """
        with self._guarded():
            file = self._text(self._existing(path))
        lines = file.lines
        if start_line < 1 or (end_line is not None and end_line < start_line):
            raise ToolRefused("start_line counts from 1, and end_line is not before it")
        if start_line > max(len(lines), 1):
            raise ToolRefused(f"{path} has {len(lines)} lines, so none at {start_line}")
        asked = lines[start_line - 1 : end_line]
        shown = fitting(asked, self._limits.shown_bytes)
        last = start_line - 1 + len(shown)
        head = f"{path}, lines {start_line} to {last} of {len(lines)}"
        if len(shown) < len(asked):
            head += f"; read on with start_line={last + 1}"
        return f"{head}\n{numbered(shown, start_line)}" if lines else f"{path} is empty"

    def search(self, text: str, path: str = ".", regex: bool = False) -> str:  # noqa: FBT001, FBT002 - a tool's arguments come by name
        """Find the lines that contain a text, in a file or in all files below a folder.

        With ``regex`` the text is a Python regular expression.
        """
        if not text or len(text) > LONGEST_EXPRESSION:
            raise ToolRefused(f"text must have 1 to {LONGEST_EXPRESSION} characters")
        with self._guarded():
            return self._found(text if regex else re.escape(text), self._existing(path))

    def write_file(self, path: str, content: str) -> str:
        """Write a whole text file, in place of what was there; missing folders are made."""
        with self._guarded():
            real = self._place(path)
            before = self._text(real) if self._is_there(real) else TextFile("")
            crlf = before.crlf and "\r" not in content
            self._write(real, TextFile(content, crlf), len(content.encode(errors="replace")))
        return f"{path} written, {len(TextFile(content).lines)} lines"

    def edit_file(self, path: str, old_text: str, new_text: str) -> str:
        """Replace a text that is in the file exactly once, spaces and line breaks included."""
        if not old_text:
            raise ToolRefused("old_text is empty; write_file writes a whole file")
        if old_text == new_text:
            raise ToolRefused("old_text and new_text are the same")
        with self._guarded():
            real = self._existing(path)
            after = self._text(real).replaced(old_text, new_text)
            self._write(real, after, len(new_text.encode(errors="replace")))
        return f"{path} changed"

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._enclosure.lock:
            try:
                yield
            except Blocked:
                self.blocked += 1
                raise

    def _existing(self, path: str) -> str:
        spelled = self._reach.spelled(path)
        self._refuse_secret(spelled)
        real = self._reach.leads_to(spelled)
        self._refuse_secret(real)
        return real

    def _place(self, path: str) -> str:
        spelled = self._reach.spelled(path)
        self._refuse_secret(spelled)
        real = self._reach.will_lead_to(spelled)
        self._refuse_secret(real)
        return real

    def _refuse_secret(self, path: str) -> None:
        if self._enclosure.secrets.match(path):
            raise Blocked(f"{path} holds secrets: it is neither read nor written")

    def _is_there(self, real: str) -> bool:
        return os.path.lexists(self._enclosure.folder / real)

    def _text(self, real: str) -> TextFile:
        with self._reach.reading(real) as opened:
            found = os.fstat(opened)
            if found in self._enclosure.kept_back:
                raise Blocked(f"{real} holds secrets: it is neither read nor written")
            if found.st_size > LARGEST_READ:
                raise ToolRefused(f"{real} has {found.st_size:,} bytes: too large to be opened")
            with os.fdopen(os.dup(opened), "rb") as file:
                data = file.read(LARGEST_READ)
        try:
            return TextFile.decoded(data)
        except ToolRefused as error:
            raise ToolRefused(f"{real}: {error}") from None

    def _write(self, real: str, file: TextFile, size: int) -> None:
        limits = self._limits
        if len(self.changed | {real}) > limits.max_files:
            raise LimitExceeded("files", f"more than {limits.max_files} files were changed")
        if self.bytes_written + size > limits.max_bytes:
            raise LimitExceeded("bytes", f"more than {limits.max_bytes:,} bytes were written")
        try:
            data = file.encoded()
        except UnicodeEncodeError:
            raise ToolRefused("the text must be valid Unicode") from None
        self._reach.replace(real, data, self._enclosure.user)
        self.changed.add(real)
        self.bytes_written += size

    def _below(self, spelled: str) -> Iterator[str]:
        root = self._enclosure.folder.resolve()
        start = root / spelled
        if start.is_file():
            yield spelled
        for parent, folders, names in os.walk(start):
            folders[:] = sorted(set(folders) - set(UNSEEN_FOLDERS))
            inside = Path(parent).relative_to(root)
            yield from (one_line(str(inside / name)) for name in sorted(names))

    def _found(self, expression: str, spelled: str) -> str:
        limits = self._limits
        hidden = self._enclosure.kept_back.paths()
        request = searching.Request(
            expression, spelled, limits.shown_matches, hidden, list(UNSEEN_FOLDERS)
        )
        program = Path(searching.__file__)
        output = self._enclosure.context.workdir / "search.jsonl"
        finished = self._enclosure.run(
            ["python", "-I", str(program), json.dumps(vars(request))],
            limits.search_time,
            toolchain=of_console(),
            visible=[program],
            output=output,
        )
        if finished.timed_out:
            end = "the search took too long and was stopped; search in fewer files"
        elif finished.exit_code != 0:
            raise ToolRefused(f"the search failed: {finished.errors.text.strip()[-500:]}")
        else:
            end = "there are more; narrow the search"
        with output.open(encoding="utf-8") as lines:
            said = [json.loads(line) for line in lines if line.endswith("\n")]
        match said:
            case [*found, searching.DONE]:
                said, end = found, ""
            case [{"error": str(why)}]:
                raise ToolRefused(f"{expression!r} is not a regular expression: {why}")
        return matches(said, limits.shown_bytes, end)

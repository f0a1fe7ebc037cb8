"""A command's output: its beginning and end in memory, all of it on disk, both with a cap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from agents.contract import JSON


@dataclass(frozen=True, slots=True)
class Output:
    """What a stream carried. ``head`` and ``tail`` meet without a gap unless ``truncated``."""

    head: str
    tail: str
    size: int
    """Bytes the command wrote, shown or not."""
    truncated: bool

    @property
    def text(self) -> str:
        return f"{self.head}\n[…]\n{self.tail}" if self.truncated else self.head + self.tail

    def as_json(self) -> JSON:
        return {
            "head": self.head,
            "tail": self.tail,
            "bytes": self.size,
            "truncated": self.truncated,
        }


LONGEST_LINE = 4096


class Capture:
    """Takes a stream in chunks of bytes.

    Keeps ``shown`` bytes of its beginning and of its end, and writes everything to ``path`` until
    ``limit`` bytes are there; what follows is counted only, and ``overflowed`` says so.
    """

    def __init__(self, shown: int, limit: int, path: Path | None = None) -> None:
        self.overflowed = False
        self._shown = shown
        self._limit = limit
        self._file: BinaryIO | None = path.open("wb") if path else None
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0

    def write(self, chunk: bytes) -> None:
        if self._file:
            self._file.write(chunk[: max(0, self._limit - self._size)])
        self._size += len(chunk)
        self.overflowed = self.overflowed or self._size > self._limit
        room = self._shown - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[max(0, room) :]
        # Trimmed only when it has doubled: a slice for every chunk would copy it each time.
        if len(self._tail) > 2 * self._shown:
            del self._tail[: -self._shown]

    def latest_line(self) -> str:
        """The last complete line so far, for somebody who watches."""
        recent = bytes(self._head[-LONGEST_LINE:] + self._tail[-LONGEST_LINE:])
        lines = recent.rpartition(b"\n")[0].rsplit(b"\n", 1)
        return _text(lines[-1]).rstrip()

    def output(self) -> Output:
        tail = self._tail[-self._shown :]
        return Output(
            _text(self._head),
            _text(tail),
            self._size,
            truncated=self._size > len(self._head) + len(tail),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file:
            self._file.close()


def _text(data: bytes | bytearray) -> str:
    return data.decode("utf-8", errors="replace")

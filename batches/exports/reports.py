"""Test cases as JUnit XML: cleaned, counted, and read from a stored report.

A report says what tests that nobody vouches for made it say: it is read case by case, only what
JUnit knows is kept of it, and it may not define entities.
Source of the format: https://github.com/testmoapp/junitxml
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO
from xml.etree import ElementTree as ET
from xml.parsers import expat

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no place for, section 2.2."""
CHUNK = 64 * 1024
LONGEST_CASE = 4 * 1024 * 1024
LONGEST_TOKEN = 8 * 1024 * 1024
"""Bounds of what is held at once: characters of one case, bytes of a tag that has not ended."""
DEEPEST = 20

PARTS = {
    "testcase": {"classname", "name", "time", "file", "line"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message", "type"},
    "system-out": set[str](),
    "system-err": set[str](),
    "properties": set[str](),
    "property": {"name", "value"},
}
"""What a case may be made of: elements, and their attributes."""


class Unreadable(ValueError):
    """The report is no JUnit XML, or not within the bounds."""


def clean(text: str) -> str:
    return NOT_XML.sub("\ufffd", text)


def case(classname: str, name: str, seconds: float = 0.0) -> ET.Element:
    """One test that passed, as long as no part is added."""
    names = {"classname": clean(classname), "name": clean(name), "time": f"{seconds:.3f}"}
    return ET.Element("testcase", names)


def add_part(to: ET.Element, tag: str, message: str, text: str = "") -> ET.Element:
    """Say that it was a failure, an error or skipped; returns ``to``."""
    ET.SubElement(to, tag, {"message": clean(message)}).text = clean(text) or None
    return to


@dataclass(slots=True)
class Totals:
    tests: int = 0
    failures: int = 0
    errors: int = 0
    skipped: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, cases: Iterable[ET.Element]) -> Totals:
        totals = cls()
        for each in cases:
            totals.add(each)
        return totals

    def add(self, each: ET.Element) -> None:
        self.tests += 1
        self.seconds += float(each.get("time", "0"))
        if each.find("error") is not None:
            self.errors += 1
        elif each.find("failure") is not None:
            self.failures += 1
        elif each.find("skipped") is not None:
            self.skipped += 1


def read_cases(report: IO[bytes]) -> Iterator[ET.Element]:
    """The cases of all suites of a report, in their order.

    Raises:
        Unreadable: from there on; cases before it were given.
    """
    reading = _Reading()
    # The encoding it declares is not asked: a codec would be looked up by that name.
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reading.doctype
    parser.StartElementHandler = reading.start
    parser.EndElementHandler = reading.end
    parser.CharacterDataHandler = reading.data
    fed = 0
    try:
        while chunk := report.read(CHUNK):
            parser.Parse(chunk, False)
            fed += len(chunk)
            if fed - max(parser.CurrentByteIndex, 0) > LONGEST_TOKEN:
                raise Unreadable(f"a tag of more than {LONGEST_TOKEN} bytes")
            yield from reading.taken()
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise Unreadable(str(error)) from None


class _Reading:
    """What the parser calls; holds the case that has begun, and those that ended."""

    def __init__(self) -> None:
        self._ended: list[ET.Element] = []
        self._case: ET.TreeBuilder | None = None
        self._size = 0
        self._depth = 0

    def taken(self) -> list[ET.Element]:
        ended, self._ended = self._ended, []
        return ended

    def doctype(self, *_: object) -> None:
        raise Unreadable("a document type, which could define entities")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._depth and tag not in {"testsuites", "testsuite"}:
            raise Unreadable(f"<{tag[:100]}> does not begin a report of tests")
        self._depth += 1
        if self._depth > DEEPEST:
            raise Unreadable(f"more than {DEEPEST} elements within each other")
        if self._case is None:
            if tag != "testcase":
                return
            self._case, self._size = ET.TreeBuilder(), 0
        elif tag not in PARTS or tag == "testcase":
            raise Unreadable(f"<{tag[:100]}> in a test case")
        kept = {name: clean(text) for name, text in attributes.items() if name in PARTS[tag]}
        if tag == "testcase":
            kept["time"] = _seconds(kept.get("time", ""))
        self._count(sum(map(len, kept.values())) + len(tag))
        self._case.start(tag, kept)

    def end(self, tag: str) -> None:
        self._depth -= 1
        if self._case is None:
            return
        self._case.end(tag)
        if tag == "testcase":
            self._ended.append(self._case.close())
            self._case = None

    def data(self, text: str) -> None:
        if self._case is not None:
            self._count(len(text))
            self._case.data(clean(text))

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > LONGEST_CASE:
            raise Unreadable(f"a test case of more than {LONGEST_CASE} characters")


def _seconds(text: str) -> str:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    return f"{seconds if math.isfinite(seconds) and seconds >= 0 else 0.0:.3f}"

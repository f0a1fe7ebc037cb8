"""JUnit XML of a test run, written from its events, so that a run that died has one too.

Source of the format: https://github.com/testmoapp/junitxml
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

from agents.tally import Case

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no place for, section 2.2."""


def write_junit(path: Path, name: str, cases: Iterable[Case], seconds: float) -> None:
    """``name`` names the suite. A case's class is its file and class, joined by dots."""
    outcomes: Counter[str] = Counter()
    suite = ET.Element("testsuite")
    for case in cases:
        outcomes[case.outcome] += 1
        suite.append(_element(case))
    totals = {
        "name": name,
        "tests": outcomes.total(),
        "failures": outcomes["failed"],
        "errors": outcomes["error"],
        "skipped": outcomes["skipped"] + outcomes["xfailed"],
        "time": f"{seconds:.3f}",
    }
    for key, value in totals.items():
        suite.set(key, _clean(str(value)))
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.ElementTree(suites).write(path, encoding="utf-8", xml_declaration=True)


def _element(case: Case) -> ET.Element:
    file, *names = case.id.split("::") if "[" not in case.id else _split_before_parameters(case.id)
    module = file.removesuffix(".py").replace("/", ".")
    element = ET.Element(
        "testcase",
        {
            "classname": _clean(".".join([module, *names[:-1]])),
            "name": _clean(names[-1] if names else file),
            "time": f"{case.seconds:.3f}",
        },
    )
    tag = {"failed": "failure", "error": "error", "skipped": "skipped", "xfailed": "skipped"}
    if case.outcome in tag:
        inner = ET.SubElement(element, tag[case.outcome], {"message": _clean(case.message)})
        inner.text = _clean(case.text) or None
    return element


def _split_before_parameters(name: str) -> list[str]:
    # A parameter may hold :: itself.
    before, bracket, parameters = name.partition("[")
    *parts, last = before.split("::")
    return [*parts, last + bracket + parameters]


def _clean(text: str) -> str:
    return NOT_XML.sub("\ufffd", text)

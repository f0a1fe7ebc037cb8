"""A thousand hostile bodies: each is refused with a problem that names the place.

Nothing is stored. They are made by rule, the same in every run, for every shipped kind, as JSON and
as JSON Lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from batches.models import Batch, SubmissionKey, Task

# What is refused does not depend on the database.
pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only, pytest.mark.timeout(120)]

KINDS = {
    "validation": ("targets", "/batch/validation", {"path": "a.py"}),
    "tests": ("modules", "/batch/tests", {"path": "t.py"}),
    "mcp": ("operations", "/batch/mcp-operations", {"type": "read", "path": "a"}),
}
"""Kind → list field, endpoint and a good item."""
WRONG_TYPES: tuple[Any, ...] = (None, True, 0, -1, 1.5, 10**30, "", [], {}, [[]], [None], {"a": 1})
PATHS: tuple[Any, ...] = (
    "/etc/passwd", "..", "../x", "a/../../b", "./..", "a\\b", "C:\\x", "a\0b", "a\nb", "\x1b[2J",
    "", " ", "\t", "\ud800", "x" * 256, "y/" * 3000, "//x", "\x7f",
)  # fmt: skip
OPTIONS: dict[str, tuple[Any, ...]] = {
    "name": (None, 1, [], {}, "x" * 201, "a\0b", "\udfff"),
    "backend": (None, 1, "sqs", [], {}, True),
    "workspace": (1, [], {}, "nowhere", "../red", "red\0", True, "RED"),
    "priority": (-1, 11, 1.5, "x", [], {}, True, 10**30, "5e400"),
    "queue": (1, [], {}, "nowhere", "tests\0", True, "../tests"),
    "parallel": (0, -1, 1.5, "x", [], {}, True, 10**12),
    "max_attempts": (None, 0, -1, 101, 1.5, "x", [], {}, True),
    "timeout": (0, -1, 3301, 1.5, "x", [], {}, True, 10**30),
    "run_at": (1, [], {}, "yesterday", "2026-13-01T00:00:00Z", "9" * 50, True, "0000-00-00"),
    "deadline": (1, [], {}, "soon", "2020-01-01T00:00:00Z", "2026-02-30T00:00:00Z", True),
    "after": (None, 1, "x", {}, [1], ["x"], [None], ["01a2047a-598e-748e-8557-861393c503e0"]),
    "labels": (None, 1, "x", {}, [1], [None], [[]], ["x" * 101], ["a\0"], ["l"] * 101),
    "on_failure": (None, 1, "explode", [], {}, True),
    "depends_on": ([], ["0"]),  # of an item, not of a batch
    "__proto__": ({}, 1),
    "nmae": ("x",),
}
ITEM_FIELDS: dict[str, tuple[Any, ...]] = {
    "id": (None, 1, [], {}, "", "x" * 129, "a\0b", "\ud800", True),
    "priority": (-1, 11, 1.5, "x", [], {}, True, 10**30),
    "timeout": (0, -1, 3301, "x", [], {}, True),
    "depends_on": (None, 1, "x", {}, [1], [None], ["nobody"], ["1"], [""], ["a\0"]),
    "nonsense": (1, None),
    "": (1,),
    "a\0b": (1,),
}


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


def bodies(field: str, good: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Why it is hostile, and the body; each has a workspace and is else in order."""
    fine = {"workspace": "red", field: [good, good]}
    for value in WRONG_TYPES:
        yield "items of the wrong type", fine | {field: value}
        if value != {}:
            yield "an item of the wrong type", fine | {field: [good, value]}
        yield "a path of the wrong type", fine | {field: [good, good | {"path": value or None}]}
    for path in PATHS:
        yield "a path trick", fine | {field: [good, good | {"path": path}]}
    for name, values in OPTIONS.items():
        for value in values:
            yield f"the option {name}", fine | {name: value}
    for name, values in ITEM_FIELDS.items():
        for value in values:
            yield f"an item's {name!r}", fine | {field: [good, good | {name: value}]}
    yield "no items at all", {"workspace": "red"}
    yield "no workspace", {field: [good]}
    yield "an id given twice", fine | {field: [good | {"id": "a"}, good | {"id": "a"}]}
    yield "an id that is a position", fine | {field: [good | {"id": "1"}, good]}
    for length in (1, 2, 3, 10, 50):
        circle = [
            good | {"id": f"n{n}", "depends_on": [f"n{(n + 1) % length}"]} for n in range(length)
        ]
        yield "a circle", fine | {field: circle}


def texts(field: str, good: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Why it is hostile, and the bytes, which ``json.dumps`` does not make."""
    item = json.dumps(good)
    whole = f'{{"workspace": "red", "{field}": [{item}]}}'
    for text in (
        "", " ", "null", "[]", '"x"', "1", "{", "}", whole[:-1], whole + "x", whole + whole, "\0",
        whole.replace(":", ""), whole.replace('"', "'"), whole.replace("}]", ",}]"), "{}",
        deep(100_000), f'{{"{field}": {deep(5000)}}}', f'{{"{field}": [{{"path": {deep(300)}}}]}}',
        f'{{"workspace": "red", "workspace": "red", "{field}": [{item}]}}',
        f'{{"workspace": "red", "{field}": [{item[:-1]}, "id": "a", "id": "b"}}]}}',
        *(
            f'{{"workspace": "red", "priority": {number}, "{field}": [{item}]}}'
            for number in ("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "01", "+1", "0x1")
        ),
    ):  # fmt: skip
        yield "no JSON object", text.encode()
    for data in (
        b"\xff\xfe", whole.encode("utf-16"), whole.encode().replace(b"red", b"r\xe9d"),
        b"\xed\xa0\x80", whole.encode()[:-3] + b"\xc0\x80\"]}", b"\x00" * 100,
    ):  # fmt: skip
        yield "no UTF-8", data


def lines(body: dict[str, Any], field: str) -> bytes:
    """The same as JSON Lines."""
    options = {name: value for name, value in body.items() if name != field}
    return "\n".join(json.dumps(part) for part in (options, *body.get(field, ()))).encode()


def assert_refused(response: Any, why: str, data: bytes) -> dict[str, Any]:
    told = (why, data[:200], response.status_code, response.content[:300])
    assert 400 <= response.status_code < 500, told
    assert response.headers["Content-Type"] == "application/problem+json", told
    problem: dict[str, Any] = json.loads(response.content)
    assert problem["detail"], told
    return problem


def test_a_thousand_hostile_bodies_are_refused(client_of: Any, operator: Any, red: Any) -> None:
    client, sent = client_of(operator), 0

    def post(address: str, data: bytes, media_type: str, why: str) -> dict[str, Any]:
        nonlocal sent
        sent += 1
        response = client.generic("POST", address, data, content_type=media_type)
        return assert_refused(response, why, data)

    for field, address, good in KINDS.values():
        for why, body in bodies(field, good):
            data = json.dumps(body).encode()
            problem = post(address, data, "application/json", why)
            assert all(error["field"] and error["message"] for error in problem["errors"]), why
            assert problem["errors"], (why, body)
            if isinstance(body.get(field), list):
                problem = post(address, lines(body, field), "application/x-ndjson", why)
                assert problem["errors"], (why, body)
                assert all("Line " in e["message"] or e["field"] == field
                           for e in problem["errors"]), (why, problem)  # fmt: skip
        for why, data in texts(field, good):
            post(address, data, "application/json", why)
            if data.strip() != b"{}":
                post(
                    address, b'{"workspace": "red"}\n' + data + b"\n{}", "application/x-ndjson", why
                )
    assert sent >= 1000
    for model in (Batch, Task, SubmissionKey):
        assert not model.objects.exists()

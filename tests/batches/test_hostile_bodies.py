"""Hostile bodies on the calls that submit: each is refused with a problem that names the place.

Nothing of any of them is stored. A shipped kind brings its own, for each field of its bodies.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection

from batches import registry
from batches.api.submissions import COMMON_FIELDS, COMMON_ITEM_FIELDS, SERIALIZERS, AnySubmission
from batches.models import Batch, SubmissionKey, Task
from batches.registry import Kind
from config.settings import TASK_KINDS
from tests.batches import hostile

# Values on both databases: what only one of them cannot store must not get as far as that.
pytestmark = pytest.mark.django_db

PLAIN, LINES = "application/json", "application/x-ndjson"
SHIPPED = [kind for name, kind in registry.offered().items() if name in TASK_KINDS]
Send = Callable[..., dict[str, Any]]

each_kind = pytest.mark.parametrize("kind", SHIPPED, ids=lambda kind: kind.name)


@pytest.fixture
def send(client_of: Any, operator: Any, red: Any) -> Send:
    """Sends a body that is refused, and stored in no part; the problem."""
    client = client_of(None)
    client.force_authenticate(operator)  # once: it is not what is tested here
    turns = itertools.count()

    def sent(kind: Kind, data: bytes, media_type: str, status: int = 400) -> dict[str, Any]:
        # A key is taken before the body is read, and must be given back: with some, for the time.
        keyed = media_type == LINES and next(turns) % 8 == 0
        more = {"HTTP_IDEMPOTENCY_KEY": "again"} if keyed else {}
        address = f"/batch/{kind.endpoint}"
        response = client.generic("POST", address, data, content_type=media_type, **more)
        told = (data[:300], response.status_code, response.content[:500])
        assert response.status_code == status, told
        assert response.headers["Content-Type"] == "application/problem+json", told
        assert not anything_stored(), told
        problem: dict[str, Any] = json.loads(response.content)
        return problem | {"accept": response.headers.get("Accept")}

    return sent


def anything_stored() -> bool:
    """Asked in one statement, because it is asked of every body."""
    tables = [model._meta.db_table for model in (Batch, Task, SubmissionKey, LogEntry)]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {' OR '.join(f'EXISTS (SELECT 1 FROM {t})' for t in tables)}")
        [found] = cursor.fetchone()
    return bool(found)


def only_error(problem: dict[str, Any]) -> tuple[str, str]:
    """The place and what is said about it, which the problem's detail says too."""
    [error] = problem["errors"]
    assert problem["detail"] == f"{error['field']}: {error['message']}"
    return error["field"], error["message"]


def line_of(place: str, items: str) -> int | None:
    """The line of JSON Lines where a place is; the list of items as a whole is on none."""
    if found := re.match(rf"{items}\[(\d+)\]", place):
        return int(found[1]) + 2
    return None if place == items else 1


@each_kind
def test_a_wrong_value_is_named_by_its_place(kind: Kind, send: Send) -> None:
    for number, (place, body) in enumerate(hostile.bodies(kind)):
        named, message = only_error(send(kind, json.dumps(body).encode(), PLAIN))
        assert named == place, (body, message)
        # Their lines are read the same way, whatever would store them, and by the same serializers.
        as_lines = connection.vendor == "sqlite" and number % 2 == 0
        if as_lines and isinstance(body.get(kind.items), list):
            named, message = only_error(send(kind, hostile.as_lines(body, kind.items), LINES))
            assert named == place, (body, message)
            line = line_of(place, kind.items)
            assert re.findall(r"\ALine (\d+): ", message) == ([str(line)] if line else []), body


@pytest.mark.either
@each_kind
def test_what_is_no_json_is_named_by_line_and_column(kind: Kind, send: Send) -> None:
    first = json.dumps(hostile.KINDS[kind.name].items[0][0]).encode()
    above = [b'{"workspace": "red"}', first]
    for number, text in enumerate(hostile.texts(kind)):
        data, line, column = hostile.marked(text)
        place, message = only_error(send(kind, data, PLAIN))
        assert place == "body", text[:300]
        assert message.startswith("The body is n"), (text[:300], message)
        assert message.endswith(f": line {line} column {column}."), (text[:300], message)
        if b"\n" in data:
            continue
        lines_above = number % 3
        lines = b"\n".join([*above[:lines_above], data, first])
        place, message = only_error(send(kind, lines, LINES))
        assert place == ("body", f"{kind.items}[0]", f"{kind.items}[1]")[lines_above], text[:300]
        assert message.startswith(f"Line {lines_above + 1}: The line is n"), (text[:300], message)
        assert message.endswith(f": column {column}."), (text[:300], message)


@pytest.mark.either
@each_kind
def test_json_that_is_no_object_is_named(kind: Kind, send: Send) -> None:
    for text, what in hostile.NO_OBJECTS.items():
        data, said = text.encode(), f"must be a JSON object, not {what}."
        assert only_error(send(kind, data, PLAIN)) == ("body", f"The body {said}")
        first = ("body", f"Line 1: The line {said}")
        assert only_error(send(kind, data + b"\n{}", LINES)) == first
        second = (f"{kind.items}[0]", f"Line 2: The line {said}")
        assert only_error(send(kind, b'{"workspace": "red"}\n' + data, LINES)) == second


@pytest.mark.either
@each_kind
def test_nothing_at_all_is_a_body_without_items(kind: Kind, send: Send) -> None:
    for data in (b"", b"{}"):
        problem = send(kind, data, PLAIN)
        assert only_error(problem) == (kind.items, "This field is required.")
    for data in (b"", b" ", b"\n\n{}", b"\r\n"):
        place, message = only_error(send(kind, data, LINES))
        assert (place, message[:26]) == ("body", "Line 1: The line is blank,")


@pytest.mark.either
@each_kind
def test_another_content_type_is_told_the_right_ones(kind: Kind, send: Send) -> None:
    good = hostile.KINDS[kind.name].items[0][0]
    body = json.dumps({"workspace": "red", kind.items: [good]}).encode()
    for media_type in (
        "text/plain", "text/json", "application/xml", "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x", "application/json5", "application/x-ndjson5",
        "application/problem+json", "application", "json", "x", "", ";", "\xff/\xff",
        "application/octet-stream; charset=utf-8", "x/" + "y" * 5000,
    ):  # fmt: skip
        problem = send(kind, body, media_type, 415)
        assert problem["detail"].startswith(f"The Content-Type must be {PLAIN} or {LINES}.")
        assert problem["accept"] == f"{PLAIN}, {LINES}"


@each_kind
def test_too_much_is_refused(kind: Kind, send: Send, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 2_000_000
    options = b'{"workspace": "red"}\n'
    for data in (b" " * 2_000_001, b"[" * 2_000_001, options * 100_000):
        for media_type in (PLAIN, LINES):
            told = send(kind, data, media_type, 413)["detail"]
            assert told.startswith("The body has more than 2,000,000 bytes. ")
    line = b'{"path": "' + b"x" * 1024 * 1024 + b'"}'
    told = "The line has more than 1,048,576 bytes."
    assert only_error(send(kind, line, LINES)) == ("body", f"Line 1: {told}")
    place, message = only_error(send(kind, options + line, LINES))
    assert (place, message) == (f"{kind.items}[0]", f"Line 2: {told}")


def test_there_are_more_than_a_thousand() -> None:
    found = {
        (kind.name, data)
        for kind in SHIPPED
        for data in (
            *(json.dumps(body).encode() for _, body in hostile.bodies(kind)),
            *hostile.texts(kind),
        )
    }
    assert len(found) >= 1000


@each_kind
def test_each_field_has_hostile_values(kind: Kind) -> None:
    own = hostile.KINDS[kind.name]
    serializer: Any = SERIALIZERS.get(kind.name, AnySubmission)()
    options = set(serializer.fields) - {kind.items}
    assert options <= {hostile.name_at(place) for place in (*hostile.OPTIONS, *own.options)}
    assert options >= COMMON_FIELDS
    fields = set(serializer.fields[kind.items].shape.fields)
    places = [place for _, values in own.items for place in values]
    assert fields - COMMON_ITEM_FIELDS <= {hostile.name_at(place) for place in places}
    assert {hostile.name_at(place) for place in hostile.ITEM_FIELDS} >= COMMON_ITEM_FIELDS
    assert places


def test_no_kind_is_left_out() -> None:
    assert hostile.KINDS.keys() == {kind.name for kind in SHIPPED}

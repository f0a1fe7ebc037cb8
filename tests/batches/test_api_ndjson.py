"""Submissions as JSON Lines: read as a stream, stored whole or not at all, errors by their line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from batches import vetting
from batches.api.body import Body
from batches.api.lines import LONGEST_LINE, Lines
from batches.models import Batch, Task
from batches.submission import InvalidSubmission

pytestmark = pytest.mark.django_db

NDJSON = "application/x-ndjson"


def joined(*lines: object) -> bytes:
    return b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines
    )


@pytest.fixture
def client(client_of, operator):
    return client_of(operator)


@pytest.fixture
def send(client):
    def sent(body: bytes, address: str = "/batch/noop", **more: Any) -> Any:
        return client.generic("POST", address, body, content_type=NDJSON, **more)

    return sent


def errors_of(response: Any) -> list[tuple[str, str]]:
    """What is said about each field; nothing is stored."""
    assert response.status_code == 400, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    assert not Batch.objects.exists()
    return [(error["field"], error["message"]) for error in response.json()["errors"]]


class Endless(io.RawIOBase):
    """Lines for as long as somebody reads; tells how many bytes were."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        super().__init__()
        self._lines, self._rest, self.taken = iter(lines), b"", 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = next(self._lines, b"")
        data, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(data)] = data
        self.taken += len(data)
        return len(data)


def test_options_come_first_and_an_item_on_each_line(send, operator, red):
    options = {"name": "nightly", "workspace": "red", "priority": 8, "labels": ["a"]}
    items = [{"id": "first", "n": 1}, {"id": "second", "depends_on": ["first"], "priority": 2}]
    response = send(joined(options, *items))
    assert response.status_code == 202, response.content
    assert response.headers["Location"] == response.json()["links"]["self"]
    batch = Batch.objects.get()
    assert (batch.name, batch.owner, batch.workspace, batch.total) == ("nightly", operator, red, 2)
    assert batch.sealed_at is not None
    rows = Task.objects.order_by("position").values_list("custom_id", "priority", "payload")
    assert list(rows) == [("first", 8, {"n": 1}), ("second", 2, {})]


def test_fields_of_the_kind_are_options_too(send, red):
    options = {"workspace": "red", "checks": ["syntax"]}
    response = send(joined(options, {"path": "a.py"}, {"path": "b.py"}), "/batch/validation/")
    assert response.status_code == 202, response.content
    payloads = [task.payload for task in Task.objects.order_by("position")]
    assert [(each["path"], each["checks"]) for each in payloads] == [
        ("a.py", ["syntax"]),
        ("b.py", ["syntax"]),
    ]


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n\r\n  \n"])
def test_the_last_line_may_end_as_it_likes(send, end):
    assert send(b'\xef\xbb\xbf{}\r\n{"id": "a"}\r\n{"id": "b"}' + end).status_code == 202
    assert Batch.objects.get().total == 2


def test_a_body_in_chunks_needs_no_length(send):
    chunks = {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
    stream = io.BytesIO(joined({}, {}, {}))
    ended = {"wsgi.input": stream, "wsgi.input_terminated": True}
    assert send(b"", **chunks, **ended).status_code == 202
    assert Batch.objects.get().total == 2
    assert send(joined({}, {}), **chunks).status_code == 411


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "The line is blank, which only lines at the end may be."),
        (b'{"n" 1}', "The line is not JSON: Expecting ':' delimiter: column 6."),
        (b'{"n": "\0"}', "The line is not JSON: "),
        (b'{"n": NaN}', "NaN is not a JSON number: column 7."),
        (b'{"n": 1, "n": 2}', "'n' is given twice in one object: column 10."),
        (b'{"n": "\xff"}', "The line is not UTF-8: column 8."),
        (b"[" * 100_000, "The line is nested too deeply: column 101."),
        (b"[{}]", "The line must be a JSON object, not an array."),
        (b"null", "The line must be a JSON object, not null."),
        (b'{"n": "' + b"x" * LONGEST_LINE + b'"}', "The line has more than 1,048,576 bytes."),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_line_that_holds_no_item_is_named(send, line, words):
    [(field, message)] = errors_of(send(joined({}, {}, line, {})))
    assert field == "items[1]"
    assert message.startswith("Line 3: ")
    assert words in message


@pytest.mark.parametrize(
    ("lines", "field", "line"),
    [
        ([{}, {"n": "a\0b"}], "items[0].n", "Line 2: Null characters"),
        ([{}, {}, {"priority": "5"}], "items[1].priority", "Line 3: Must be an integer"),
        ([{}, {"id": "a"}, {"id": "a"}], "items[1].id", "Line 3: 'a' is also"),
        ([{}, {"depends_on": ["x"]}], "items[0].depends_on[0]", "Line 2: No item"),
        ([{"nmae": "x"}, {}], "nmae", "Line 1: Unknown field: there are "),
        ([{"items": [{}]}, {}], "items", "Line 1: The items come after it"),
        ([{"workspace": "nowhere"}, {}], "workspace", "Line 1: There is no workspace"),
        ([b"[]", {}], "body", "Line 1: The line must be a JSON object"),
        ([], "body", "Line 1: The line is blank"),
        ([{}], "items", "Must hold at least one item."),
        ([{}, b"", b" "], "items", "Must hold at least one item."),
    ],
)
def test_a_wrong_field_is_named_with_its_line(send, lines, field, line):
    [(named, message)] = errors_of(send(joined(*lines)))
    assert named == field
    assert message.startswith(line)


def test_a_line_far_down_is_named_and_nothing_is_stored(send):
    body = joined({}) + b"{}\n" * 1999 + b'{"n": 1\n'
    [(field, message)] = errors_of(send(body))
    assert field == "items[1999]"
    assert message.startswith("Line 2001: ")
    assert not Task.objects.exists()


def test_all_wrong_lines_are_named_up_to_a_hundred(send):
    wrong = [{"priority": 99}, b"x"]
    found = errors_of(send(joined({}, *wrong, {})))
    assert [field for field, _ in found] == ["items[0].priority", "items[1]"]
    assert len(errors_of(send(joined({}, *wrong * 80)))) == 100


def test_a_line_too_many_is_refused(send, monkeypatch):
    monkeypatch.setattr(vetting, "MOST_ITEMS", 3)
    [(field, message)] = errors_of(send(joined({}, {}, {}, {}, {})))
    assert (field, message[:25]) == ("items", "Must hold 3 items at most")


def test_a_body_beyond_the_limit_is_refused(send, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    assert send(joined({}, *[{}] * 400)).status_code == 413
    chunks = {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
    stream = io.BytesIO(joined({}, *[{}] * 400))
    ended = {"wsgi.input": stream, "wsgi.input_terminated": True}
    assert send(b"", **chunks, **ended).status_code == 413
    assert not Batch.objects.exists()


def test_a_body_that_ends_early_is_refused_though_its_lines_are_whole(send):
    body = joined({}, {})
    response = send(b"", **{"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body) + 9)})
    assert (response.status_code, response.json()["detail"]) == (400, "The body ended early.")
    assert not Batch.objects.exists()


def test_lines_are_read_as_they_are_asked_for():
    stream = Endless(b'{"n": 1}\n' for _ in range(10**9))
    lines = Lines(stream)
    assert lines.first() == {"n": 1}
    rest = lines.rest()
    for _ in range(50_000):
        assert next(rest) == b'{"n": 1}\n'
    assert stream.taken < 50_001 * 9 + 200_000


def test_a_line_without_an_end_is_not_kept():
    lines = Lines(Endless(b"x" * 65536 for _ in range(100)))
    with pytest.raises(InvalidSubmission, match="The line has more than"):
        lines.first()


def test_a_fingerprint_is_of_the_bytes_and_the_place(rf):
    def of(path: str, body: bytes, read: int) -> str:
        stream = Body(rf.generic("POST", path, body))
        stream.read(read)
        return stream.fingerprint()

    assert of("/batch/noop", b"abc", 1) == of("/batch/noop/", b"abc", 2)
    assert of("/batch/noop", b"abc", 1) != of("/batch/tests", b"abc", 1)
    assert of("/batch/noop", b"abc", 1) != of("/batch/noop", b"abd", 1)


def test_a_browser_gets_its_page(send):
    response = send(joined({}, {}), headers={"accept": "text/html"})
    assert response.status_code == 202
    assert response.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("Application/X-NDJSON; charset=utf-8", 202),
        ("application/*", 400),
        ("application/json", 400),
        ("text/plain", 415),
    ],
)
def test_the_content_type_decides(client, content_type, status):
    response = client.generic("POST", "/batch/noop", joined({}, {}), content_type=content_type)
    assert response.status_code == status, response.content


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson"])
def test_the_command_reads_the_same(tmp_path, admin, suffix):
    file = tmp_path / f"batch.{suffix}"
    file.write_bytes(joined({"kind": "noop", "name": "night"}, {"id": "a"}, {"id": "b"}))
    call_command("submit", str(file))
    batch = Batch.objects.get()
    assert (batch.name, batch.total, batch.owner) == ("night", 2, admin)


def test_the_command_names_the_line(tmp_path, admin):
    file = tmp_path / "batch.jsonl"
    file.write_bytes(joined({"kind": "noop"}, {}, {"priority": 11}))
    with pytest.raises(CommandError, match=r"items\[1\]\.priority: Line 3: "):
        call_command("submit", str(file))
    file.write_bytes(joined({}, {}))
    with pytest.raises(CommandError, match="kind: Say one of"):
        call_command("submit", str(file))
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("submit", str(tmp_path / "missing.jsonl"))

"""The form that submits a batch."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.test import Client

from batches.models import Batch, Task

# What the form says does not depend on the database.
pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]

ADD = "/admin/batches/batch/add/"


def log_in(user: User) -> Client:
    User.objects.filter(pk=user.pk).update(is_staff=True)
    browser = Client()
    browser.force_login(user)
    return browser


@pytest.fixture
def browser(operator: User, red: Any) -> Client:
    return log_in(operator)


def submitted(browser: Client, **fields: Any) -> list[Any]:
    """The payloads of the batch that the form made."""
    answer = browser.post(ADD, {"workspace": "red", **fields})
    assert answer.status_code == 302, answer.content.decode()
    batch = Batch.objects.get()
    assert answer["Location"] == f"/admin/batches/batch/{batch.pk}/change/"
    return list(Task.objects.filter(batch=batch).values_list("payload", flat=True))


def wrong(browser: Client, **fields: Any) -> dict[str, str]:
    """Field → message, of a form that is shown again."""
    answer = browser.post(ADD, {"workspace": "red", **fields})
    assert answer.status_code == 200
    assert not Batch.objects.exists()
    form = answer.context["form"]
    if items := fields.get("items"):
        assert form["items"].value() == items  # what was typed is not lost
    told = {error.field: error.message for error in answer.context["errors"]}
    for field, message in told.items():
        assert f"<code>{field.replace(chr(39), '&#x27;')}</code>" in answer.content.decode()
        assert message
    return told | {name: texts[0] for name, texts in form.errors.items()}


def test_paths_are_pasted_one_a_line(browser: Client) -> None:
    payloads = submitted(
        browser, kind="validation", name="N", priority="9", parallel="2",
        items="src/a.py\r\n\r\n  src/b c.py \r\n", options='{"checks": ["lint"]}',
    )  # fmt: skip
    assert payloads == [
        {"path": "src/a.py", "checks": ["lint"]},
        {"path": "src/b c.py", "checks": ["lint"]},
    ]
    batch = Batch.objects.get()
    assert (batch.name, batch.priority, batch.parallel) == ("N", 9, 2)


def test_when_and_how_often_have_fields_of_their_own(browser: Client) -> None:
    page = browser.get(ADD).content.decode()
    assert page.count('type="datetime-local"') == 2
    assert "Submit a batch</h2>" in page
    assert "validation takes checks and check_command" in page
    submitted(
        browser, kind="validation", items="a.py", max_attempts="5", labels="nightly, main ,",
        run_at="2031-02-03T04:05", deadline="2031-02-03T06:00",
    )  # fmt: skip
    batch = Batch.objects.get()
    assert (batch.max_attempts, batch.labels) == (5, ["nightly", "main"])
    assert batch.run_at.isoformat() == "2031-02-03T04:05:00+00:00"
    assert batch.deadline.isoformat() == "2031-02-03T06:00:00+00:00"


@pytest.mark.parametrize(
    "items",
    [
        '{"type": "list"}\n{"type": "read", "path": "a"}',
        '[{"type": "list"},\n {"type": "read", "path": "a"}]',
    ],
)
def test_objects_are_pasted_as_lines_or_as_an_array(browser: Client, items: str) -> None:
    assert [payload["type"] for payload in submitted(browser, kind="mcp", items=items)] == [
        "list",
        "read",
    ]


def test_a_body_is_uploaded_and_filled_in_fields_go_before_it(browser: Client) -> None:
    body = {"kind": "test", "name": "of the file", "priority": 3, "modules": [{"path": "t.py"}]}
    file = SimpleUploadedFile("body.json", json.dumps(body).encode())
    assert submitted(browser, file=file, priority="8")[0]["path"] == "t.py"
    batch = Batch.objects.get()
    assert (batch.kind, batch.name, batch.priority) == ("test", "of the file", 8)


@pytest.mark.parametrize("in_memory", [True, False])
def test_json_lines_are_uploaded(browser: Client, settings: Any, *, in_memory: bool) -> None:
    if not in_memory:
        settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 10
    lines = [{"kind": "validation"}, *({"path": f"f{n}.py"} for n in range(50))]
    file = SimpleUploadedFile("b.jsonl", "\n".join(map(json.dumps, lines)).encode())
    assert len(submitted(browser, file=file)) == 50


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"items": "a"}, "kind", "Choose one"),
        ({"kind": "validation"}, "targets", "at least one item"),
        ({"kind": "validation", "items": "a\n/etc/passwd"}, "targets[1].path", "not absolute"),
        ({"kind": "validation", "items": "{}\n{"}, "targets[1]", "not JSON"),
        ({"kind": "validation", "items": "[1]"}, "targets[0]", "Must be an object"),
        (
            {"kind": "validation", "items": "[1"},
            "targets",
            "not JSON: Expecting ',' delimiter: line 1 column 3.",
        ),
        ({"kind": "validation", "items": "a", "options": "{"}, "options", "not JSON"),
        ({"kind": "validation", "items": "a", "options": '{"x": 1}'}, "x", "Unknown"),
        ({"kind": "validation", "items": "a", "priority": "11"}, "priority", "10"),
        ({"kind": "validation", "items": "a", "run_at": "soon"}, "run_at", "wrong format"),
        ({"kind": "mcp", "items": '{"type": "dance"}'}, "operations[0].type", "one of"),
        ({"kind": "nonsense", "items": "a"}, "kind", "not one of"),
    ],
)
def test_what_is_wrong_is_shown_and_nothing_is_stored(
    browser: Client, fields: dict[str, str], field: str, words: str
) -> None:
    assert words in wrong(browser, **fields)[field]


def test_what_is_wrong_in_a_file_is_shown_with_its_line(browser: Client, settings: Any) -> None:
    def file(text: str) -> SimpleUploadedFile:
        return SimpleUploadedFile("b.jsonl", text.encode())

    text = '{"kind": "validation"}\n{"path": "a"}\n{"path": "../b"}\n'
    assert wrong(browser, file=file(text))["targets[1].path"].startswith("Line 3: ")
    assert "not both" in wrong(browser, file=file(text), kind="validation", items="a")["items"]


def test_a_form_that_is_too_large_is_refused_before_its_file_is_written(
    operator: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        TemporaryFileUploadHandler, "new_file", lambda *_arguments: written.append("a file")
    )
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 20_000
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 0
    # Django looks for its token in the form before anybody asks who sent it.
    anybody = Client(enforce_csrf_checks=True)
    anybody.cookies["csrftoken"] = "x" * 32
    for browser in (log_in(operator), anybody):
        file = SimpleUploadedFile("b.jsonl", b"x" * 30_000)
        answer = browser.post(ADD, {"file": file})
        assert answer.status_code in {400, 413}, answer.status_code
        assert "larger than this console takes" in answer.text
    assert written == []
    assert not Batch.objects.exists()


def test_markup_in_an_item_is_shown_as_text(browser: Client) -> None:
    answer = browser.post(ADD, {"kind": "validation", "items": '{"<script>": 1}'})
    assert b"<script>&" not in answer.content
    assert b"&lt;script&gt;" in answer.content


def test_only_those_who_may_submit_see_the_form(viewer: User, stranger: User, red: Any) -> None:
    assert log_in(viewer).get(ADD).status_code == 403
    answer = log_in(stranger).get(ADD)
    assert answer.status_code == 200
    assert b'value="red"' not in answer.content

"""Every refusal is a problem document, whatever was sent."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from django.core.exceptions import SuspiciousOperation
from django.db import OperationalError
from django.http import UnreadablePostError

from batches import operations
from batches.models import Batch, Task

pytestmark = pytest.mark.django_db

JSON = "application/json"


@pytest.fixture
def client(client_of, operator):
    return client_of(operator)


def assert_problem(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(response.content)
    assert set(problem) >= {"type", "title", "status", "detail", "instance"}
    assert problem["type"] == "about:blank"
    assert problem["status"] == status
    assert problem["title"] == response.reason_phrase
    assert problem["instance"] == response.request["PATH_INFO"]
    for error in problem.get("errors", ()):
        assert set(error) == {"field", "message"}
    return problem


def raw(client: Any, body: bytes, content_type: str = JSON, **headers: Any) -> Any:
    return client.generic("POST", "/batch/noop", body, content_type=content_type, **headers)


def test_400_names_what_is_wrong(client):
    problem = assert_problem(client.post("/batch/noop", {"items": 5, "nmae": ""}), 400)
    assert {error["field"] for error in problem["errors"]} == {"items", "nmae"}


def test_401_says_how_to_log_in(client_of):
    response = client_of(None).get("/batch")
    assert_problem(response, 401)
    assert response.headers["WWW-Authenticate"] == "Token"


def test_403_for_those_without_the_permission(client_of, viewer):
    assert_problem(client_of(viewer).post("/batch/noop", {"items": [{}]}), 403)


@pytest.mark.parametrize(
    "address",
    [
        "/batch/01a2047a-598e-748e-8557-861393c503e0",
        "/batch/01a2047a-598e-748e-8557",
        "/batch/tasks/x",
        "/batch/queues/nowhere",
        "/batch/workspaces/nowhere",
        "/batch/workspaces/NOWHERE",
        "/batch/%00",
        "/batch/a/b/c/",
        "/batch?format=xml",
    ],
)
def test_404_for_what_is_not_there(client, address):
    assert_problem(client.get(address), 404)


def test_405_says_what_is_allowed(client):
    response = client.put("/batch", {})
    assert_problem(response, 405)
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_405_comes_before_what_else_is_wrong(client):
    assert_problem(client.generic("TRACE", "/batch?kind=noop&kin=noop"), 405)


def test_406_for_what_we_cannot_write(client):
    assert_problem(client.get("/batch", headers={"accept": "application/pdf"}), 406)


def test_409_for_a_state_that_does_not_fit(client, operator, make_batch):
    batch = make_batch(operator)
    operations.cancel_batch(batch)
    problem = assert_problem(client.delete(f"/batch/{batch.pk}"), 409)
    assert problem["detail"] == "The batch is finished."


def test_411_for_a_body_without_a_length(client):
    """Django would read nothing of it, and an empty body means something else."""
    headers = {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
    assert_problem(raw(client, b'{"items": [{}]}', **headers), 411)


def test_413_for_a_body_beyond_the_limit(client, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    problem = assert_problem(raw(client, b" " * 1001), 413)
    assert "DATA_UPLOAD" not in problem["detail"]


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"]
)
def test_415_for_what_is_not_json(client, content_type):
    assert_problem(raw(client, b"items=1", content_type), 415)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (RuntimeError("the password is hunter2"), 500),
        (OperationalError("connection to 10.0.0.5 refused"), 503),
        (SuspiciousOperation("somebody poked at hunter2"), 400),
        (UnreadablePostError("reset"), 400),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_fault_is_logged_and_tells_nothing(client, monkeypatch, caplog, fault, status):
    def fail(*args: Any, **kwargs: Any) -> None:
        raise fault

    monkeypatch.setattr(operations, "submit", fail)
    problem = assert_problem(client.post("/batch/noop", {"items": [{}]}), status)
    assert str(fault) not in json.dumps(problem)
    assert (str(fault) in caplog.text) == (status >= 500)


def test_a_person_with_a_browser_gets_a_page_with_the_problem(client):
    response = client.get("/batch?stauts=x", headers={"accept": "text/html"})
    assert response.status_code == 400
    assert response.headers["Content-Type"].startswith("text/html")
    assert "Unknown parameter" in response.content.decode()


def test_a_byte_order_mark_is_no_reason_to_refuse(client):
    assert raw(client, b'\xef\xbb\xbf{"items": [{}]}').status_code == 202


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"\0", b"{", b"}", b"[]", b"null", b"true", b"5", b'"x"', b"[{}]",
        b"{'items': 1}",
        b"\xff\xfe{\0}\0", b"\x80", b'{"items": [{}]', b'{"items": [{}]} x', b'{"items": [{}],}',
        b'{"items": NaN}', b'{"items": [{"x": Infinity}]}', b'{"items": [{"x": -Infinity}]}',
        b'{"items": [{"x": 1e999}]}', b'{"priority": 1' + b"0" * 5000 + b', "items": [{}]}',
        b'{"items": [{}], "items": [{}]}', b'{"items": [{"x": 1, "x": 2}]}',
        b'{"items": [{"x": "\\u0000"}]}', b'{"items": [{"x": "\\ud800"}]}',
        b'{"items": [{"\\u0000": 1}]}', b'{"items": [{"\\udfff": 1}]}', b'{"\\ud800": 1}',
        b'{"items": [{"id": "\\ud800"}]}', b'{"name": "\\udc00", "items": [{}]}',
        b'{"labels": ["\\u0000"], "items": [{}]}', b'{"queue": "\\u0000", "items": [{}]}',
        b'{"workspace": "\\u0000", "items": [{}]}', b'{"workspace": "\\ud83d", "items": [{}]}',
        b'{"items": [{"depends_on": ["\\u0000"]}]}',
        b'{"items": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"items": [{"x": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}]}",
        b'{"items": [{"x": ' + b"[" * 40 + b"]" * 40 + b"}]}",
    ],
    ids=lambda body: repr(body[:40]),
)  # fmt: skip
def test_a_hostile_body_is_refused_cleanly(client, body):
    assert_problem(raw(client, body), 400)
    assert not Batch.objects.exists()


STRANGE: list[Any] = [
    None, True, False, 0, -1, 2**31, 2**63, 10**50, 1.5, -0.0, 1e300, "", " ", "0", "x" * 5000,
    "\0",
    "\ud800", "é", "💥", "a\nb", "../../etc/passwd", "' OR 1=1 --", "%s%n", "{}", [], [[]], [None],
    ["\0"], [[[[]]]], {}, {"": ""}, {"\0": 1}, {"a": {"b": "\ud800"}}, {"__proto__": {}},
    "2024-02-30", "9999-12-31T23:59:59-23:59", "01a2047a-598e-748e-8557-861393c503e0",
]  # fmt: skip
FIELDS = [
    "name", "backend", "workspace", "priority", "queue", "parallel", "max_attempts", "timeout",
    "run_at", "deadline", "after", "labels", "on_failure", "items", "targets", "checks", "kind",
    "id", "path", "depends_on", "check_command", "__class__", "\0", "\ud800", "x" * 1000,
]  # fmt: skip


def hostile(chance: random.Random, *, deep: int = 2) -> dict[str, Any]:
    body: dict[str, Any] = {
        chance.choice(FIELDS): chance.choice(STRANGE) for _ in range(chance.randint(0, 4))
    }
    if deep and chance.random() < 0.8:
        items = [hostile(chance, deep=deep - 1) for _ in range(chance.randint(0, 3))]
        body[chance.choice(["items", "targets"])] = items
    return body


@pytest.mark.parametrize("seed", range(8))
def test_a_generated_body_is_taken_whole_or_refused_cleanly(client, seed):
    chance = random.Random(seed)
    for _ in range(40):
        body = hostile(chance)
        # The processor of this test kind takes anything: what comes back must be what was sent.
        response = client.generic("POST", "/batch/noop", json.dumps(body), content_type=JSON)
        if response.status_code == 202:
            for task in Task.objects.filter(batch=response.json()["id"]):
                sent = body["items"][task.position]
                assert task.payload == {key: sent[key] for key in task.payload}
        else:
            assert_problem(response, 400)
            assert response.json()["errors"]


@pytest.mark.parametrize("seed", range(4))
def test_a_generated_change_is_taken_or_refused_cleanly(client_of, admin, make_batch, red, seed):
    client, chance = client_of(admin), random.Random(seed)
    batch = make_batch(admin)
    task = batch.tasks.first()
    fields = ["priority", "parallel", "paused", "concurrency_limit", "rate_limit", "failure", "ids",
              "path", "environment", "groups", "name"]  # fmt: skip
    calls = [
        ("PATCH", f"/batch/{batch.pk}"),
        ("POST", f"/batch/{batch.pk}/retry"),
        ("PATCH", f"/batch/tasks/{task.pk}"),
        ("POST", f"/batch/tasks/{task.pk}/retry"),
        ("PATCH", "/batch/queues/default"),
        ("PATCH", "/batch/workspaces/red"),
        ("POST", "/batch/workspaces"),
    ]
    for _ in range(40):
        method, address = chance.choice(calls)
        body = {chance.choice(fields): chance.choice(STRANGE) for _ in range(chance.randint(1, 3))}
        response = client.generic_json(method, address, body)
        if response.status_code >= 300:
            assert_problem(response, response.status_code)
            assert response.status_code in {400, 409}, response.content


@pytest.mark.parametrize("address", ["/batch/noop", "/batch/noop/"])
def test_nothing_is_redirected(client, address):
    assert client.post(address, {"items": [{}]}).status_code == 202


@pytest.mark.parametrize(
    "address", ["batch", "batch/tasks", "batch/queues", "batch/workspaces", "batch/stats",
                "health/live"]
)  # fmt: skip
def test_a_slash_at_the_end_makes_no_difference(client, address):
    for url in (f"/{address}", f"/{address}/"):
        assert client.get(url).status_code == 200
    assert client.post(f"/{address}s", {}).status_code == 404 or not address.startswith("batch/")

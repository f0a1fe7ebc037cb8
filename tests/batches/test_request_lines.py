"""Batch files in OpenAI's shape: their lines are taken, and results are given in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from batches.models import Batch, Task
from batches.states import AttemptOutcome

pytestmark = pytest.mark.django_db

SUCCEEDED, REJECTED, ERROR = (
    AttemptOutcome.SUCCEEDED,
    AttemptOutcome.REJECTED,
    AttemptOutcome.ERROR,
)


def request(custom_id: Any, url: str = "/batch/noop", **body: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def joined(*lines: Any) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@pytest.fixture
def client(client_of, operator):
    return client_of(operator)


@pytest.fixture
def send(client):
    def sent(*lines: Any, address: str = "/batch/noop", **more: Any) -> Any:
        body = joined(*lines)
        return client.generic("POST", address, body, content_type="application/x-ndjson", **more)

    return sent


def errors_of(response: Any) -> list[tuple[str, str]]:
    assert response.status_code == 400, response.content
    assert not Batch.objects.exists()
    return [(error["field"], error["message"]) for error in response.json()["errors"]]


def test_each_request_is_an_item(send):
    response = send(request("first", n=1), request("second", n=2, depends_on=["first"]))
    assert response.json()["total"] == 2
    rows = Task.objects.order_by("position").values_list(
        "custom_id", "payload", "unmet_dependencies"
    )
    assert list(rows) == [("first", {"n": 1}, 0), ("second", {"n": 2}, 1)]


def test_options_may_come_first_and_our_own_items_between(send):
    response = send({"name": "mixed", "priority": 8}, request("a"), {"id": "b"}, request("c"))
    assert response.json()["name"] == "mixed"
    assert set(Task.objects.values_list("custom_id", "priority")) == {
        ("a", 8), ("b", 8), ("c", 8),
    }  # fmt: skip


def test_a_request_may_give_options_of_its_kind_for_itself(send, red):
    url = "/batch/validation"
    response = send(
        {"workspace": "red", "checks": ["lint"]},
        request("a", url, path="a.py"),
        request("b", f"{url}/", path="b.py", checks=["types"]),
        address=url,
    )
    assert response.status_code == 202, response.content
    assert dict(Task.objects.values_list("custom_id", "payload__checks")) == {
        "a": ["lint"],
        "b": ["types"],
    }


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (request("a", "/v1/chat/completions"), ("url", "Must be /batch/validation.")),
        (request("a") | {"method": "GET"}, ("method", "Must be POST.")),
        ({"custom_id": "a", "url": "/batch/validation", "body": {"path": "a.py"}},
         ("method", "This field is required.")),
        (request("a") | {"priority": 1}, ("priority", "Unknown field")),
        (request(7), ("custom_id", "Must be a string, not a number.")),
        (request(""), ("custom_id", "This field may not be blank.")),
        (request("a") | {"body": []}, ("body", "Must be an object, not an array.")),
        (request("a", id="b"), ("body.id", "the line's custom_id")),
        (request("a", path=1), ("body.path", "Must be a string, not a number.")),
        (request("a", targets=[]), ("body.targets", "Unknown field")),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_request_is_named_with_its_line(send, red, line, error):
    line = line | {"body": {"path": "a.py"} | line["body"]} if line["body"] != [] else line
    if line.get("url") == "/batch/noop":
        line["url"] = "/batch/validation"
    said = errors_of(send({"workspace": "red"}, line, address="/batch/validation"))
    field, words = error
    [message] = [message for name, message in said if name == f"targets[0].{field}"]
    assert message.startswith("Line 2: ")
    assert words in message
    assert len(said) == 1


def test_lines_are_counted_from_the_first_request(send):
    said = errors_of(send(request("a"), request("b"), {"id": 5}))
    assert said == [("items[2].id", "Line 3: Must be a string, not a number.")]


def test_what_only_options_could_say_is_asked_for_without_a_line(send):
    said = errors_of(send(request("a", "/batch/validation", path="a"), address="/batch/validation"))
    assert said == [("workspace", "This kind of task works in a workspace: name one.")]


def test_the_same_requests_under_one_key_are_one_batch(send):
    first, again = (send(request("a"), HTTP_IDEMPOTENCY_KEY="k") for _ in range(2))
    assert first.json()["id"] == again.json()["id"]


# -- results --------------------------------------------------------------------------------------


def lines_of(client: Any, batch: Any) -> dict[str, Any]:
    answer = client.get(f"/batch/{batch}/results?format=openai")
    assert answer.headers["Content-Type"] == "application/x-ndjson; charset=utf-8"
    assert answer.headers["Content-Disposition"].endswith('.jsonl"')
    lines = map(json.loads, b"".join(answer.streaming_content).splitlines())
    return {line["custom_id"]: line for line in lines}


def test_results_have_the_shape_of_the_requests_answers(client, finish, send):
    batch = send({"max_attempts": 1}, *map(request, "abcd")).json()["id"]
    finish(SUCCEEDED, result={"found": 3})
    finish(REJECTED, result={"found": 0}, error="nothing found")
    finish(ERROR, error="it broke")
    told = lines_of(client, batch)
    ids = {task.custom_id: str(task.pk) for task in Task.objects.all()}
    assert told == {
        "a": {
            "id": ids["a"], "custom_id": "a", "error": None,
            "response": {"status_code": 200, "request_id": ids["a"], "body": {"found": 3}},
        },
        "b": {
            "id": ids["b"], "custom_id": "b",
            "error": {"code": "rejected", "message": "nothing found"},
            "response": {"status_code": 422, "request_id": ids["b"], "body": {"found": 0}},
        },
        "c": {
            "id": ids["c"], "custom_id": "c", "response": None,
            "error": {"code": "error", "message": "it broke"},
        },
    }  # fmt: skip


def test_a_line_says_of_which_variant_it_is(client, send, finish):
    options = {"variants": [{"name": "x"}, {"name": "y"}]}
    batch = send(options, request("a")).json()["id"]
    finish(SUCCEEDED, SUCCEEDED)
    answer = client.get(f"/batch/{batch}/results?format=openai")
    lines = [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]
    assert [(line["custom_id"], line["variant"]) for line in lines] == [("a", "x"), ("a", "y")]


# -- by the command -------------------------------------------------------------------------------


def test_a_file_of_requests_is_submitted_resumed_and_answered(
    make_user, red, finish, tmp_path, capsys
):
    make_user("admin", is_superuser=True)
    file = tmp_path / "requests.jsonl"
    file.write_bytes(joined(*(request(name, "/batch/noop") for name in "abc")))
    call_command("submit", str(file), "--workspace", "red")
    first = Batch.objects.get()
    assert (first.kind, first.workspace, first.total) == ("noop", red, 3)
    finish(SUCCEEDED, REJECTED, SUCCEEDED)
    capsys.readouterr()

    call_command("submit", str(file), "--workspace", "red", "--resume", str(first.pk)[:13])
    assert capsys.readouterr().err == "2 left out: done before.\n"
    again = Batch.objects.exclude(pk=first.pk).get()
    assert list(again.tasks.values_list("custom_id", flat=True)) == ["b"]

    call_command("results", str(first.pk), "--format", "openai")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["custom_id"] for line in lines] == ["a", "b", "c"]


def test_a_file_of_requests_to_nowhere_asks_for_its_kind(make_user, tmp_path):
    make_user("admin", is_superuser=True)
    file = tmp_path / "requests.jsonl"
    file.write_bytes(joined(request("a", "/v1/chat/completions")))
    with pytest.raises(CommandError, match=r"Say one of .*--kind"):
        call_command("submit", str(file))

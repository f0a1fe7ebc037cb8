"""Submitting over REST: what is taken, what is refused, and how the refusal is put."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from agents.contract import PayloadError
from batches.api.submissions import AnySubmission
from batches.models import Batch, Dependency, Task
from batches.submission import Item
from tests import processors

pytestmark = pytest.mark.django_db


def errors_of(response: Any) -> dict[str, str]:
    assert response.status_code == 400, response.content
    return {error["field"]: error["message"] for error in response.json()["errors"]}


@pytest.fixture
def client(client_of, operator):
    return client_of(operator)


def test_a_submission_is_accepted_with_its_place(client, operator, red):
    response = client.post(
        "/batch/noop",
        {
            "name": "nightly",
            "backend": "auto",
            "workspace": "red",
            "priority": 8,
            "queue": "high_priority",
            "parallel": 2,
            "max_attempts": 5,
            "timeout": 60,
            "run_at": "2099-01-01T00:00:00+02:00",
            "deadline": "2099-01-02T00:00:00Z",
            "labels": ["a", "b c"],
            "on_failure": "stop",
            "items": [{"id": "first", "n": 1}, {"id": "second", "depends_on": ["first"]}],
        },
    )
    assert response.status_code == 202
    body = response.json()
    assert response.headers["Location"] == body["links"]["self"]
    assert client.get(response.headers["Location"]).json()["id"] == body["id"]
    batch = Batch.objects.get(pk=body["id"])
    assert (batch.owner, batch.workspace, batch.queue_id) == (operator, red, "high_priority")
    assert (batch.max_attempts, batch.timeout, batch.on_failure) == (5, 60, "stop")
    assert body["run_at"] == "2098-12-31T22:00:00Z"
    assert (body["priority"], body["parallel"], body["labels"]) == (8, 2, ["a", "b c"])
    first, second = Task.objects.filter(batch=batch)
    assert first.payload == {"n": 1}
    assert Dependency.objects.get().predecessor == first
    assert second.custom_id == "second"


def test_a_batch_is_answered_with_the_fields_of_the_design(client):
    body = client.post("/batch/noop", {"items": [{}]}).json()
    assert list(body) == [
        "id", "kind", "name", "owner", "workspace", "backend", "status", "dispatch", "priority",
        "parallel", "paused", "labels", "after", "run_at", "deadline", "variants", "resumes",
        "left_out", "total", "progress", "created_at", "started_at", "finished_at", "links",
    ]  # fmt: skip
    assert set(body["links"]) == {"self", "tasks", "results"}


def test_an_item_may_override_priority_and_timeout(client):
    body = {"priority": 3, "timeout": 10, "items": [{"priority": 9, "timeout": 20}, {}]}
    batch = client.post("/batch/noop", body).json()["id"]
    rows = Task.objects.filter(batch=batch).values_list("priority", "timeout")
    assert list(rows) == [(9, 20), (3, 10)]


def test_a_batch_can_wait_for_another(client):
    first = client.post("/batch/noop", {"items": [{}]}).json()["id"]
    second = client.post("/batch/noop", {"items": [{}], "after": [first]}).json()
    assert second["after"] == [first]


def test_null_is_the_default_where_there_is_one(client):
    optional = ("workspace", "priority", "queue", "parallel", "timeout", "run_at", "deadline")
    body = dict.fromkeys(optional) | {"items": [{"priority": None, "timeout": None}]}
    assert client.post("/batch/noop", body).status_code == 202


def test_fields_of_the_kind_reach_each_task(client, red):
    targets = [{"id": "one", "path": "a.py"}, {"path": "b.py"}]
    body = {"workspace": "red", "checks": ["syntax"], "targets": targets}
    response = client.post("/batch/validation", body)
    assert response.status_code == 202, response.content
    payloads = [task.payload for task in Task.objects.order_by("position")]
    assert [(payload["path"], payload["checks"]) for payload in payloads] == [
        ("a.py", ["syntax"]),
        ("b.py", ["syntax"]),
    ]


def test_tests_are_submitted_as_modules(client, red):
    body = {"workspace": "red", "modules": [{"path": "tests/test_a.py"}]}
    response = client.post("/batch/tests/", body)
    assert (response.status_code, response.json()["kind"]) == (202, "test")


@pytest.mark.parametrize(
    ("address", "body", "field"),
    [
        ("validation", {"targets": [{"path": 5}]}, "targets[0].path"),
        ("validation", {"targets": [{"path": "a"}, {"paht": "b"}]}, "targets[1].paht"),
        ("validation", {"targets": [{}]}, "targets[0].path"),
        ("validation", {"targets": [{"path": "a", "module": "b"}]}, "targets[0].module"),
        ("validation", {"modules": [{"path": "a"}]}, "modules"),
        ("validation", {"checks": "syntax", "targets": [{"path": "a"}]}, "checks"),
        ("validation", {"checks": ["a", 1], "targets": [{"path": "a"}]}, "checks[1]"),
        ("tests", {"test_command": ["pytest"], "modules": [{"path": "a"}]}, "test_command"),
        ("tests", {"modules": [{"path": "a\0b"}]}, "modules[0].path"),
    ],
)
def test_the_wrong_field_of_a_kind_is_named(client, address, body, field):
    assert field in errors_of(client.post(f"/batch/{address}", body))
    assert not Batch.objects.exists()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": 5}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"nmae": "typo"}, "nmae"),
        ({"backend": "kafka"}, "backend"),
        ({"backend": ["database"]}, "backend"),
        ({"workspace": "nowhere"}, "workspace"),
        ({"workspace": {}}, "workspace"),
        ({"priority": 11}, "priority"),
        ({"priority": -1}, "priority"),
        ({"priority": "5"}, "priority"),
        ({"priority": 5.5}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 10**40}, "priority"),
        ({"queue": "nowhere"}, "queue"),
        ({"parallel": 0}, "parallel"),
        ({"parallel": 2**31}, "parallel"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": None}, "max_attempts"),
        ({"timeout": 4000}, "timeout"),
        ({"run_at": 1700000000}, "run_at"),
        ({"run_at": "tomorrow"}, "run_at"),
        ({"run_at": "0001-01-01T00:00:00+23:00"}, "run_at"),
        ({"deadline": "2001-01-01T00:00:00Z"}, "deadline"),
        ({"after": "x"}, "after"),
        ({"after": ["x"]}, "after[0]"),
        ({"after": [5]}, "after[0]"),
        ({"after": ["0" * 32]}, "after[0]"),
        ({"labels": {"a": "b"}}, "labels"),
        ({"labels": ["ok", 5]}, "labels[1]"),
        ({"on_failure": "explode"}, "on_failure"),
        ({"items": []}, "items"),
        ({"items": {}}, "items"),
        ({"items": None}, "items"),
        ({"items": ["a"]}, "items[0]"),
        ({"items": [{}, None]}, "items[1]"),
        ({"items": [{"id": 5}]}, "items[0].id"),
        ({"items": [{"id": ""}]}, "items[0].id"),
        ({"items": [{"id": "x" * 129}]}, "items[0].id"),
        ({"items": [{"id": "a"}, {"id": "a"}]}, "items[1].id"),
        ({"items": [{"priority": "high"}]}, "items[0].priority"),
        ({"items": [{"timeout": 0}]}, "items[0].timeout"),
        ({"items": [{"timeout": 10_000}]}, "items[0].timeout"),
        ({"items": [{"depends_on": "a"}]}, "items[0].depends_on"),
        ({"items": [{"depends_on": [1]}]}, "items[0].depends_on[0]"),
        ({"items": [{"depends_on": ["ghost"]}]}, "items[0].depends_on[0]"),
        ({"items": [{"id": "a", "depends_on": ["a"]}]}, "items[0].depends_on"),
        ({"items": [{"x": {"y": ["a\0"]}}]}, "items[0].x.y[0]"),
    ],
    ids=str,
)
def test_the_wrong_field_is_named_and_nothing_is_stored(client, fields, named):
    assert named in errors_of(client.post("/batch/noop", {"items": [{}]} | fields))
    assert not Batch.objects.exists()


def test_a_number_without_a_fraction_is_an_integer(client):
    """As in JSON Schema, which is what the OpenAPI document is read by."""
    assert client.post("/batch/noop", {"items": [{"timeout": 60.0}]}).status_code == 202
    assert Task.objects.get().timeout == 60
    assert "priority" in errors_of(client.post("/batch/noop", {"items": [{}], "priority": 1e300}))


def test_everything_that_is_wrong_is_said_at_once(client):
    body = {"nmae": "x", "priority": 11, "items": [{"id": 1}, {}, {"timeout": "x", "id": 2}]}
    assert errors_of(client.post("/batch/noop", body)).keys() == {
        "nmae", "priority", "items[0].id", "items[2].timeout", "items[2].id",
    }  # fmt: skip


def test_a_thousand_wrong_items_give_a_hundred_errors(client):
    response = client.post("/batch/noop", {"items": [{"id": 1}] * 1000})
    assert len(response.json()["errors"]) == 100


def test_a_rule_of_the_processor_is_reported_at_its_item(client):
    response = client.post("/batch/sleep", {"items": [{"seconds": 1}, {"seconds": -1}]})
    assert "items[1].seconds" in errors_of(response)


def test_a_nested_field_of_the_processor_is_reported_with_its_path(client, monkeypatch):
    def refuse(self: Any, payload: Any, settings: Any) -> Any:
        raise PayloadError("x.y", "No.")

    monkeypatch.setattr(processors.Nothing, "validate", refuse)
    response = client.post("/batch/noop", {"items": [{"x": {"y": 1}}]})
    assert errors_of(response) == {"items[0].x.y": "No."}


def test_a_workspace_of_others_does_not_exist(client_of, stranger, red):
    response = client_of(stranger).post("/batch/noop", {"workspace": "red", "items": [{}]})
    assert "workspace" in errors_of(response)


def test_a_batch_of_others_cannot_be_waited_for(client_of, stranger, operator, make_batch):
    other = make_batch(operator)
    body = {"after": [str(other.pk)], "items": [{}]}
    assert "after[0]" in errors_of(client_of(stranger).post("/batch/noop", body))


def test_a_deadline_before_the_start_is_refused(client):
    now = timezone.now()
    body = {
        "items": [{}],
        "run_at": (now + timedelta(hours=2)).isoformat(),
        "deadline": (now + timedelta(hours=1)).isoformat(),
    }
    assert "run_at" in errors_of(client.post("/batch/noop", body))


def test_ten_thousand_items_are_read_without_asking_the_database(django_assert_num_queries):
    items = [{"id": f"item {n}", "priority": n % 11, "n": n} for n in range(10_000)]
    serializer = AnySubmission(data={"items": items})
    with django_assert_num_queries(0):
        assert serializer.is_valid()
    assert serializer.validated_data["items"][9_999] == Item({"n": 9999}, "item 9999", 0)


def test_ten_thousand_items_are_one_batch(client):
    items = [{"id": f"item {n}", "n": n} for n in range(10_000)]
    assert client.post("/batch/noop", {"items": items}).json()["total"] == 10_000


def test_a_cookie_without_its_csrf_token_submits_nothing(operator):
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(operator)
    response = client.post("/batch/noop", {"items": [{}]})
    assert response.status_code == 403
    assert "CSRF" in response.json()["detail"]
    assert not Batch.objects.exists()

"""A submission sent again under its ``Idempotency-Key`` is the same submission, for a day."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError
from django.utils import timezone

from batches import idempotency, operations, upkeep
from batches.models import Batch, SubmissionKey
from batches.operations import submitting
from batches.queue.removal import delete_batch
from batches.queue.wishes import cancel_batch
from batches.submission import Item, Submission

pytestmark = pytest.mark.django_db

ONE = {"items": [{"n": 1}]}
LINES = b'{}\n{"n": 1}\n'


def post(client: Any, body: object, key: str = "k-1", address: str = "/batch/noop") -> Any:
    lines = isinstance(body, bytes)
    return client.generic(
        "POST",
        address,
        body if lines else json.dumps(body).encode(),
        content_type="application/x-ndjson" if lines else "application/json",
        headers={"Idempotency-Key": key},
    )


def wanted() -> Submission:
    return Submission(kind="noop", items=[Item({})])


def age(key: str, **time: float) -> None:
    rows = SubmissionKey.objects.filter(key=key)
    assert rows.update(taken_at=timezone.now() - timedelta(**time)) == 1


@pytest.fixture
def client(client_of, operator):
    return client_of(operator)


@pytest.mark.parametrize("body", [ONE, LINES], ids=["json", "lines"])
def test_the_same_again_is_answered_with_the_first_batch(client, body):
    first = post(client, body)
    assert first.status_code == 202, first.content
    assert "Idempotency-Replayed" not in first.headers
    again = post(client, body, address="/batch/noop/")
    assert again.status_code == 202
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert again.json()["id"] == first.json()["id"]
    assert Batch.objects.count() == 1


@pytest.mark.parametrize("other", [{"items": [{"n": 2}]}, LINES, b'{}\n{"n": 1}'])
def test_another_body_under_the_key_is_refused(client, other):
    post(client, ONE)
    response = post(client, other)
    assert response.status_code == 422
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "another body" in response.json()["detail"]
    assert Batch.objects.count() == 1


def test_the_address_belongs_to_what_is_the_same(client, red):
    assert post(client, {"workspace": "red", "targets": [{"path": "a"}]}, "k").status_code == 400
    body = {"workspace": "red", "items": [{}]}
    assert post(client, body, "k").status_code == 202
    assert post(client, body, "k", "/batch/validation").status_code == 422


def test_another_key_and_none_are_another_batch(client):
    post(client, ONE)
    assert post(client, ONE, "k-2").status_code == 202
    assert client.post("/batch/noop", ONE).status_code == 202
    assert Batch.objects.count() == 3


def test_a_key_is_of_one_user(client, client_of, stranger):
    first = post(client, ONE).json()["id"]
    response = post(client_of(stranger), ONE)
    assert response.status_code == 202
    assert response.json()["id"] != first


@pytest.mark.parametrize("body", [{"items": [{"priority": 99}]}, b"{}\n{}\n{", b"{}\n"])
def test_a_refused_submission_does_not_use_the_key_up(client, body):
    assert post(client, body).status_code == 400
    assert not SubmissionKey.objects.exists()
    assert post(client, ONE).status_code == 202


def test_a_fault_does_not_use_the_key_up(client, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(submitting, "submit", lambda *_args, **_more: 1 / 0)
        assert post(client, ONE).status_code == 500
    assert post(client, ONE).status_code == 202


def test_one_in_progress_is_a_conflict(client, operator):
    idempotency.take(operator, "k-1")
    response = post(client, ONE)
    assert response.status_code == 409
    assert "in progress" in response.json()["detail"]
    assert not Batch.objects.exists()


def test_one_that_died_gives_way(client, operator):
    idempotency.take(operator, "k-1")
    age("k-1", minutes=6)
    assert post(client, ONE).status_code == 202


def test_one_that_took_too_long_stores_nothing_once_it_was_sent_again(client, operator):
    def slow() -> Submission:
        age("k-1", minutes=6)
        assert post(client, ONE).status_code == 202
        return wanted()

    with pytest.raises(operations.Conflict, match="in progress"):
        operations.submit_once(operator, "k-1", slow, lambda: "f")
    [batch] = Batch.objects.all()
    assert SubmissionKey.objects.get().batch == batch
    assert "Idempotency-Replayed" in post(client, ONE).headers


def test_a_key_is_forgotten_after_a_day(client):
    post(client, ONE)
    age("k-1", hours=23, minutes=59)
    upkeep.forget()
    assert "Idempotency-Replayed" in post(client, ONE).headers
    age("k-1", hours=24, minutes=1)
    assert post(client, {"items": [{"n": 2}]}).status_code == 202
    age("k-1", hours=24, minutes=1)
    upkeep.forget()
    assert not SubmissionKey.objects.exists()
    assert Batch.objects.count() == 2


def test_many_old_keys_are_forgotten_in_chunks(operator, monkeypatch):
    monkeypatch.setattr(idempotency, "CHUNK", 2)
    old = timezone.now() - timedelta(days=2)
    SubmissionKey.objects.bulk_create(
        SubmissionKey(user=operator, key=str(n), taken_at=old) for n in range(5)
    )
    idempotency.take(operator, "new")
    idempotency.forget_old()
    assert list(SubmissionKey.objects.values_list("key", flat=True)) == ["new"]


def test_a_key_goes_with_its_batch(client):
    batch = Batch.objects.get(pk=post(client, ONE).json()["id"])
    Batch.objects.filter(pk=batch.pk).update(sealed_at=None)
    again = post(client, ONE)
    assert again.status_code == 202
    assert again.json()["id"] != str(batch.pk)
    stored = Batch.objects.get(pk=again.json()["id"])
    cancel_batch(stored.pk)
    assert delete_batch(stored.pk)
    assert not SubmissionKey.objects.exists()


@pytest.mark.parametrize("key", ["", "a b", "ä", "a\x7f", "x" * 256])
def test_a_key_is_visible_ascii(client, key):
    response = client.generic(
        "POST",
        "/batch/noop",
        json.dumps(ONE).encode(),
        content_type="application/json",
        HTTP_IDEMPOTENCY_KEY=key,
    )
    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == ["Idempotency-Key"]
    assert not Batch.objects.exists()


def test_the_longest_key_is_taken(client):
    assert post(client, ONE, "~" * 255).status_code == 202
    assert "Idempotency-Replayed" in post(client, ONE, "~" * 255).headers


def test_the_database_holds_a_key_to_one_row(operator):
    SubmissionKey.objects.create(user=operator, key="k")
    with pytest.raises(IntegrityError):
        SubmissionKey.objects.create(user=operator, key="k")

"""Two submissions under one key, each on a connection of its own."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from batches import idempotency, operations
from batches.models import Batch, SubmissionKey
from batches.operations import Conflict
from batches.submission import Item, Submission

pytestmark = pytest.mark.postgres_only

SEALS = "SET sealed_at"
COMPLETES = 'UPDATE "batches_submissionkey"'
REMOVES = 'DELETE FROM "batches_submissionkey"'
LOOKS = 'FROM "batches_submissionkey"'


def send(owner: User) -> tuple[Batch, bool]:
    return operations.submit_once(
        owner, "k", lambda: Submission(kind="noop", items=[Item({})]), lambda: "same"
    )


def make_old() -> None:
    past = timezone.now() - timedelta(minutes=10)
    assert SubmissionKey.objects.update(taken_at=past) == 1


def test_only_one_of_two_at_once_is_stored(race, owner):
    first = race.start(send, owner, before=SEALS)
    second = race.start(send, owner)
    with pytest.raises(Conflict, match="in progress"):
        second.result()
    batch, replayed = first.result()
    assert not replayed
    assert send(owner) == (batch, True)
    assert list(Batch.objects.all()) == [batch]


def test_one_that_comes_when_the_first_has_just_failed_goes_on(race, owner):
    taken = idempotency.take(owner, "k")
    second = race.start(send, owner, before=LOOKS)
    idempotency.give_back(taken)
    batch, replayed = second.result()
    assert not replayed
    assert SubmissionKey.objects.get().batch == batch


def test_one_taken_over_before_it_is_sealed_stores_nothing(race, owner):
    first = race.start(send, owner, before=COMPLETES)
    make_old()
    batch, replayed = race.start(send, owner).result()
    assert not replayed
    with pytest.raises(Conflict, match="in progress"):
        first.result()
    assert list(Batch.objects.all()) == [batch]
    assert send(owner) == (batch, True)


def test_one_that_comes_while_the_first_is_sealed_waits_and_gets_its_batch(race, owner, submit):
    batch, taken = submit("a"), idempotency.take(owner, "k")
    seal = race.uncommitted(idempotency.complete, taken, batch, "same")
    second = race.start(send, owner)
    assert second.rest() == "waiting"
    seal.go()
    assert second.result() == (batch, True)


def test_one_that_is_sealed_just_before_it_is_taken_over_keeps_its_key(race, owner, submit):
    batch, taken = submit("a"), idempotency.take(owner, "k")
    make_old()
    second = race.start(send, owner, before=REMOVES)
    idempotency.complete(taken, batch, "same")
    with pytest.raises(Conflict, match="in progress"):
        second.result()
    assert send(owner) == (batch, True)

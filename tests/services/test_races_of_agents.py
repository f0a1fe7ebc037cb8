"""Workspaces and models that several connections want at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from batches import operations
from batches.models import Batch, Workspace
from batches.queue.lease import Effect, announce_effect
from batches.queue.settle import settle
from batches.queue.verdicts import Verdict
from batches.states import AttemptOutcome
from tests.queueing import take

pytestmark = pytest.mark.postgres_only


@pytest.fixture
def workspace(transactional_db: None, tmp_path: Path):
    row = operations.add_workspace("alone", tmp_path)
    yield row
    Batch.objects.all().delete()
    row.delete()


@pytest.fixture
def two(submit, workspace):
    """Two claimed tasks of one workspace."""
    submit("a", "b", workspace=workspace.name)
    return take(workspaces=frozenset({workspace.pk}))


def alone(claimed) -> Effect:
    return announce_effect(claimed.lease, claimed.workspace_id)


def test_of_two_that_want_a_workspace_at_once_one_gets_it(race, two):
    first = race.uncommitted(alone, two[0])
    second = race.start(alone, two[1])
    assert second.rest() == "waiting"
    assert first.result() == Effect.GRANTED
    assert second.result() == Effect.BUSY


def test_who_waited_for_a_workspace_gets_it_where_the_other_was_refused(race, two):
    operations.cancel_task(Batch.objects.get().tasks.get(pk=two[0].lease.task_id))
    first = race.uncommitted(alone, two[0])
    second = race.start(alone, two[1])
    assert first.result() == Effect.REFUSED
    assert second.result() == Effect.GRANTED
    assert Workspace.objects.get().changing_task == two[1].lease.task_id


def test_a_workspace_is_kept_until_the_settle_of_its_attempt_is_committed(race, two):
    assert alone(two[0]) == Effect.GRANTED
    settling = race.uncommitted(settle, [Verdict(two[0].lease, AttemptOutcome.SUCCEEDED)])
    assert alone(two[1]) == Effect.BUSY
    settling.result()
    assert alone(two[1]) == Effect.GRANTED

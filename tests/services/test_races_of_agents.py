"""Workspaces and models that several connections want at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.utils import timezone

from batches import operations
from batches.models import Batch, ModelProfile, Task, Workspace
from batches.queue.claim_by_id import claim_by_id
from batches.queue.lease import Effect, announce_effect
from batches.queue.settle import settle
from batches.queue.verdicts import Verdict
from batches.queue.walk import Claimant
from batches.states import AttemptOutcome
from batches.submission import Item, Submission
from tests.queueing import names, take

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


@pytest.fixture
def modelled(owner):
    """Batches of tasks that need the model ``big``, of which one may run at a time; each of a
    queue of its own, so that no lock but the model's makes claimers wait for each other."""
    operations.add_model("big", parallel=1)
    queues = iter(["default", "tests", "low_priority"])

    def make(*ids: str, models: tuple[str, ...] = ("big",), backend: str = "database") -> Batch:
        items = [Item({"models": list(models)}, id=name) for name in ids]
        wanted = Submission(
            kind="modelled", items=items, backend=backend, queue=next(queues), priority=5
        )
        batch = operations.submit(owner, wanted)
        # It has started before: a first claim locks its batch, limit or not.
        Batch.objects.update(started_at=timezone.now())
        return batch

    yield make
    ModelProfile.objects.all().delete()


def taken(*queues: str) -> list:
    return take(kinds={"modelled"}, queues=frozenset(queues))


def message(task):
    return claim_by_id(Claimant("w", "celery"), task)


def test_two_claimers_share_the_limit_of_a_model(race, modelled):
    modelled("a")
    modelled("b")
    first = race.uncommitted(taken, "default")
    second = race.start(taken, "tests")
    assert second.rest() == "waiting"
    assert names(first.result()) == ["a"]
    assert second.result() == []


def test_who_waited_for_a_model_claims_what_needs_another(race, modelled):
    modelled("a")
    modelled("b", models=("big", "other"))
    operations.add_model("other", parallel=1)
    modelled("c", models=("other",))
    first = race.uncommitted(taken, "default")
    second = race.start(taken, "tests", "low_priority")
    assert names(first.result()) == ["a"]
    assert names(second.result()) == ["c"]


@pytest.mark.parametrize("overtaken", [True, False])
def test_a_message_and_a_claimer_share_the_limit_of_a_model(race, modelled, settings, overtaken):
    settings.CELERY_BROKER_URL = "memory://"
    modelled("a")
    [task] = modelled("b", backend="celery").tasks.all()
    if overtaken:
        first, second = race.uncommitted(taken), race.start(message, task.pk)
        assert names(first.result()) == ["a"]
        assert second.result() is None
    else:
        first, second = race.uncommitted(message, task.pk), race.start(taken)
        assert first.result().lease.task_id == task.pk
        assert second.result() == []
    assert Task.objects.filter(state="running").count() == 1


def test_two_messages_share_the_limit_of_a_model(race, modelled, settings):
    settings.CELERY_BROKER_URL = "memory://"
    [one] = modelled("a", backend="celery").tasks.all()
    [other] = modelled("b", backend="celery").tasks.all()
    first = race.uncommitted(message, one.pk)
    second = race.start(message, other.pk)
    assert second.rest() == "waiting"
    assert first.result() is not None
    assert second.result() is None


def test_a_place_of_a_model_is_free_once_the_settle_is_committed(race, modelled):
    modelled("a", "b")
    [running] = taken()
    settling = race.uncommitted(settle, [Verdict(running.lease, AttemptOutcome.SUCCEEDED)])
    assert taken() == []
    settling.result()
    assert names(taken()) == ["b"]


def test_two_that_need_two_models_in_another_order_do_not_wait_for_each_other(race, modelled):
    operations.add_model("other", parallel=1)
    modelled("a", models=("big", "other"))
    modelled("b", models=("other", "big"))
    first = race.start(taken, "default", before="UPDATE batches_task")
    second = race.start(taken, "tests")
    assert second.rest() == "waiting"
    assert names(first.result()) == ["a"]
    assert second.result() == []

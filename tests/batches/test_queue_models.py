"""Limits of models: how many tasks that need one may run at once, however they are claimed."""

from __future__ import annotations

from uuid import UUID

import pytest

from batches import operations
from batches.models import Batch, ModelProfile, Task
from batches.queue.claim_by_id import claim_by_id
from batches.queue.dispatch import readers, tell
from batches.queue.walk import Claimant
from batches.submission import Item
from tests.batches.test_queue_limits import statements
from tests.queueing import end, names, take

pytestmark = pytest.mark.django_db


@pytest.fixture
def limit():
    def make(name: str, parallel: int | None) -> ModelProfile:
        return operations.add_model(name, parallel=parallel)

    return make


@pytest.fixture
def batch_of(operator, make_batch):
    """A batch of tasks named ``a0 a1 …``; each group of names needs the models given for it."""

    def make(backend: str = "database", **groups: tuple[int, str]) -> Batch:
        items = [
            Item({"models": needed.split()}, id=f"{group}{n}")
            for group, (number, needed) in groups.items()
            for n in range(number)
        ]
        return make_batch(operator, items=items, kind="modelled", backend=backend)

    return make


def started() -> list[str]:
    return names(take(kinds={"modelled"}))


def by_id(task: UUID):
    return claim_by_id(Claimant("w", "database"), task)


def test_a_batch_keeps_which_models_its_tasks_need_together(batch_of) -> None:
    batch = batch_of(a=(2, "big small"), b=(1, "small big"), c=(1, "other"), d=(1, ""))
    batch.refresh_from_db()
    assert batch.demands == [["model:big", "model:small"], ["model:other"]]


def test_no_more_tasks_run_than_the_model_has_places(limit, batch_of) -> None:
    limit("big", 2)
    batch_of(a=(3, "big"))
    batch_of(b=(2, "big"))
    first = take(kinds={"modelled"})
    assert names(first) == ["a0", "a1"]
    assert started() == []
    end(first[0])
    assert started() == ["a2"]
    end(first[1])
    assert started() == ["b0"]


def test_who_needs_two_models_takes_a_place_of_each(limit, batch_of) -> None:
    limit("big", 2)
    limit("small", 3)
    batch_of(a=(2, "small"), b=(3, "big small"), c=(2, "big"))
    assert started() == ["a0", "a1", "b0", "c0"]
    assert Task.objects.filter(state="running").count() == 4


def test_what_needs_another_model_or_none_is_not_held_up(limit, batch_of) -> None:
    limit("big", 1)
    batch_of(a=(3, "big"), b=(2, "free"), c=(1, ""))
    batch_of(d=(1, "big"), e=(1, "free"))
    assert started() == ["a0", "b0", "b1", "c0", "e0"]


def test_a_model_without_a_limit_or_a_profile_holds_nothing_back(limit, batch_of) -> None:
    limit("big", None)
    batch_of(a=(5, "big"), b=(5, "unknown"))
    assert len(started()) == 10


def test_a_limit_may_be_set_and_lifted_while_tasks_wait(limit, batch_of) -> None:
    profile = limit("big", 1)
    batch_of(a=(9, "big"))
    assert len(started()) == 1
    operations.change_model(profile, parallel=4)
    assert len(started()) == 3
    operations.change_model(profile, parallel=None)
    assert len(started()) == 5


def test_a_limit_below_what_runs_starts_nothing(limit, batch_of) -> None:
    profile = limit("big", 5)
    batch_of(a=(9, "big"))
    running = take(4, kinds={"modelled"})
    operations.change_model(profile, parallel=2)
    for claimed in running[:2]:
        end(claimed)
        assert started() == []
    end(running[2])
    assert started() == ["a4"]


def test_a_message_claims_nothing_that_the_model_has_no_place_for(limit, batch_of) -> None:
    limit("big", 1)
    batch = batch_of(a=(2, "big"), b=(1, "free"))
    first, second, other = batch.tasks.order_by("position").values_list("pk", flat=True)
    claimed = by_id(first)
    assert claimed is not None
    assert claimed.limited
    assert by_id(second) is None
    assert by_id(other) is not None
    end(claimed)
    assert by_id(second) is not None


def test_a_reached_limit_is_found_once_however_many_batches_wait(limit, batch_of) -> None:
    limit("big", 1)
    for n in range(20):
        batch_of(**{f"a{n}x": (2, "big")})
    assert len(started()) == 1
    with statements("m.parallel FROM") as looks, statements("SAVEPOINT") as begun:
        assert started() == []
    assert (looks(), begun()) == (1, 0)


def test_limits_of_batches_queues_and_models_hold_together(limit, operator, make_batch) -> None:
    limit("big", 2)
    items = [Item({"models": ["big"]}, id=f"a{n}") for n in range(5)]
    make_batch(operator, items=items, kind="modelled", parallel=1)
    make_batch(operator, items=items, kind="modelled", parallel=4)
    assert started() == ["a0", "a0"]


def test_a_message_is_sent_of_no_more_tasks_than_the_model_has_places(
    limit, batch_of, settings
) -> None:
    settings.CELERY_BROKER_URL = "memory://"
    limit("big", 2)
    batch = batch_of("celery", a=(4, "big"), b=(2, "free big"), c=(2, "free"))
    told = tell(frozenset(), readers())
    custom = dict(batch.tasks.values_list("pk", "custom_id"))
    assert [custom[message.task_id] for message in told] == ["a0", "a1", "c0", "c1"]
    assert tell(frozenset(), readers()) == []
    claimed = claim_by_id(Claimant("w", "celery"), told[0].task_id)
    assert claimed is not None
    assert tell(frozenset(), readers()) == []
    end(claimed)
    assert [custom[message.task_id] for message in tell(frozenset(), readers())] == ["a2"]

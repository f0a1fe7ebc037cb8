"""A batch that resumes another leaves out what succeeded there, and builds on it."""

from __future__ import annotations

from uuid import uuid4

import pytest

from batches import operations
from batches.models import Batch, Dependency, Task
from batches.queue.removal import delete_batch
from batches.states import AttemptOutcome
from batches.submission import FieldError, InvalidSubmission, Item, Submission, Variant

pytestmark = pytest.mark.django_db

SUCCEEDED, REJECTED = AttemptOutcome.SUCCEEDED, AttemptOutcome.REJECTED


def items(names: str, **needs: str) -> list[Item]:
    return [Item({}, id=name, depends_on=tuple(needs.get(name, ""))) for name in names]


def refusal(owner, **fields) -> list[FieldError]:
    wanted = Submission(**{"kind": "noop", "items": items("abc"), **fields})
    with pytest.raises(InvalidSubmission) as refused:
        operations.submit(owner, wanted)
    return refused.value.errors


@pytest.fixture
def half_done(operator, make_batch, finish) -> Batch:
    """Of a, b and c, a and c succeeded."""
    batch = make_batch(operator, items=items("abc"))
    finish(SUCCEEDED, REJECTED, SUCCEEDED)
    return batch


def test_what_succeeded_is_left_out(operator, make_batch, half_done):
    again = make_batch(operator, items=items("abcd"), resume=half_done.pk)
    assert list(again.tasks.values_list("position", "custom_id")) == [(1, "b"), (3, "d")]
    assert (again.total, again.left_out, again.resumes) == (2, 2, half_done.pk)


def test_what_succeeded_further_back_is_left_out_too(operator, make_batch, finish, half_done):
    second = make_batch(operator, items=items("abcd"), resume=half_done.pk)
    finish(SUCCEEDED, REJECTED)
    third = make_batch(operator, items=items("abcd"), resume=second.pk)
    assert list(third.tasks.values_list("custom_id", flat=True)) == ["d"]


def test_what_succeeded_in_one_variant_is_left_out_of_that_one(operator, make_batch, finish):
    two = (Variant("x"), Variant("y"))
    first = make_batch(operator, items=items("ab"), variants=two)
    leases = finish(SUCCEEDED, REJECTED, REJECTED, REJECTED)
    good = Task.objects.get(pk=leases[0].task_id)
    again = make_batch(operator, items=items("ab"), variants=two, resume=first.pk)
    assert (again.total, again.left_out) == (3, 1)
    assert not again.tasks.filter(custom_id=good.custom_id, variant=good.variant).exists()


def test_a_task_may_build_on_one_that_succeeded_before(operator, make_batch, start, half_done):
    wanted = items("abcd", b="a", d="bc")
    again = make_batch(operator, items=wanted, resume=half_done.pk)
    of_b, of_d = (again.tasks.get(custom_id=name) for name in "bd")
    assert (of_b.unmet_dependencies, of_d.unmet_dependencies) == (0, 1)
    linked = Dependency.objects.filter(task__batch=again)
    assert sorted(
        linked.values_list("task__custom_id", "predecessor__custom_id", "predecessor__batch")
    ) == [("b", "a", half_done.pk), ("d", "b", again.pk), ("d", "c", half_done.pk)]
    [lease] = start(1)
    assert lease.task_id == of_b.pk


def test_a_batch_stays_while_one_that_resumes_it_is_open(operator, make_batch, finish, half_done):
    again = make_batch(operator, items=items("ab", b="a"), resume=half_done.pk)
    assert not delete_batch(half_done.pk)
    finish(SUCCEEDED)
    assert delete_batch(half_done.pk)
    assert again.tasks.get().state == "succeeded"
    assert not Dependency.objects.exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "append"}, "Its tasks are of kind noop."),
        ({"workspace": "red"}, "It worked in another workspace."),
        ({"items": items("ac")}, "Every item succeeded there already."),
    ],
)
def test_a_batch_that_cannot_be_resumed_so(operator, red, half_done, fields, said):
    assert refusal(operator, resume=half_done.pk, **fields) == [FieldError("resume", said)]
    assert Batch.objects.count() == 1


def test_only_a_finished_batch_is_resumed(operator, make_batch):
    batch = make_batch(operator, items=items("abc"))
    said = "It is not finished: wait for it, or cancel it."
    assert refusal(operator, resume=batch.pk) == [FieldError("resume", said)]


def test_nobody_resumes_a_batch_they_may_not_see(stranger, half_done):
    for batch in (half_done.pk, uuid4()):
        said = f"There is no batch {batch} that you may see."
        assert refusal(stranger, resume=batch) == [FieldError("resume", said)]


def test_a_batch_that_is_deleted_during_the_submission_is_not_resumed(operator, half_done):
    def body():
        yield from items("ab")
        assert delete_batch(half_done.pk)

    [error] = refusal(operator, resume=half_done.pk, items=body())
    assert error == FieldError("resume", "One of these batches is being deleted.")
    assert not Batch.objects.exists()


def test_the_answer_says_what_was_left_out(client_of, operator, half_done):
    body = {"resume": str(half_done.pk), "items": [{"id": "a"}, {"id": "b"}]}
    answer = client_of(operator).post("/batch/noop", body).json()
    assert (answer["resumes"], answer["left_out"], answer["total"]) == (str(half_done.pk), 1, 1)

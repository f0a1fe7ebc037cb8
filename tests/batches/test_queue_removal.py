"""Deleting a batch, in steps, and what may still be done with one that is being deleted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from batches import operations
from batches.models import Artefact, Batch, Task
from batches.queue import removal
from batches.queue.removal import delete_batch, remove_batch
from batches.submission import FieldError, InvalidSubmission, Item
from tests.queueing import end, take

pytestmark = pytest.mark.django_db


@pytest.fixture
def finished(operator, make_batch):
    def make(tasks: int, **fields) -> Batch:
        batch = make_batch(operator, tasks, **fields)
        for claimed in take():
            end(claimed)
        return batch

    return make


def test_a_deletion_goes_in_chunks_and_says_how_far_it_is(finished, monkeypatch):
    monkeypatch.setattr(removal, "CHUNK", 2)
    batch = finished(5)
    assert list(remove_batch(batch.pk)) == [2, 4, 5]
    assert not Batch.objects.exists()
    assert not Task.objects.exists()


def test_a_deletion_that_stopped_half_way_leaves_a_batch_that_nobody_can_ask_for_anything(
    finished, operator, monkeypatch
):
    monkeypatch.setattr(removal, "CHUNK", 2)
    batch = finished(5)
    assert next(remove_batch(batch.pk)) == 2
    for verb in (operations.retry_batch, operations.pause_batch, operations.cancel_batch):
        with pytest.raises(operations.Conflict, match="being deleted"):
            verb(batch)
    assert not Batch.objects.visible_to(operator).exists()
    assert delete_batch(batch.pk)
    assert not Batch.objects.exists()


def test_an_open_batch_is_not_deleted(operator, make_batch):
    batch = make_batch(operator, 1)
    assert not delete_batch(batch.pk)
    assert batch.tasks.count() == 1


def test_a_batch_that_an_open_one_comes_after_is_not_deleted(finished, operator, make_batch):
    batch = finished(1)
    make_batch(operator, 1, after=(batch.pk,))
    assert not delete_batch(batch.pk)


def test_a_batch_that_finished_again_since_is_not_deleted(finished):
    batch = finished(1)
    assert list(remove_batch(batch.pk, finished_before=timezone.now() - timedelta(days=1))) == []
    assert Batch.objects.exists()


def test_a_batch_that_is_being_deleted_cannot_be_waited_for(finished, operator, make_batch):
    batch = finished(1)
    Batch.objects.filter(pk=batch.pk).update(state="open", sealed_at=None, finished_at=None)
    with pytest.raises(InvalidSubmission, match="no batch"):
        make_batch(operator, 1, after=(batch.pk,))


def test_a_predecessor_that_is_deleted_during_a_submission_is_refused(
    finished, operator, make_batch
):
    batch = finished(1)

    def body():
        yield Item({})
        assert delete_batch(batch.pk)

    with pytest.raises(InvalidSubmission) as refused:
        make_batch(operator, items=body(), after=(batch.pk,))
    assert refused.value.errors == [FieldError("after", "One of these batches is being deleted.")]
    assert not Batch.objects.exists()


def test_a_file_that_cannot_be_deleted_does_not_stop_the_rest(finished, caplog):
    batch = finished(2)
    stuck, other = batch.tasks.all()
    for task in (stuck, other):
        artefact = Artefact(task=task, attempt=1, name="log.txt", media_type="text/plain", size=1)
        artefact.file.save("log.txt", ContentFile(b"x"))
    path = Artefact.objects.get(task=stuck).file.name
    left = Artefact.objects.get(task=other).file.name
    default_storage.delete(path)
    default_storage.save(f"{path}/in the way", ContentFile(b"x"))  # a folder that is not empty
    assert delete_batch(batch.pk)
    assert not default_storage.exists(left)
    assert path in caplog.text
    default_storage.delete(f"{path}/in the way")

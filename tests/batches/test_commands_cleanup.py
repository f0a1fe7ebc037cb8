from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.utils import timezone

from batches import operations
from batches.models import Batch, Task
from batches.submission import Item, Submission

pytestmark = pytest.mark.django_db


def cleanup(*arguments: str) -> str:
    out = StringIO()
    call_command("cleanup", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def finished():
    owner = get_user_model().objects.create_user("ada")

    def made(days: int) -> Batch:
        batch = operations.submit(owner, Submission(kind="noop", items=[Item({}), Item({})]))
        operations.cancel_batch(batch)
        ended = timezone.now() - timedelta(days=days)
        assert Batch.objects.filter(pk=batch.pk, state="done").update(finished_at=ended)
        return batch

    return made


def test_old_batches_go_with_their_tasks_and_others_stay(finished):
    finished(10)
    young = finished(8)

    assert cleanup("--days", "9") == "Deleted 1 batch that finished more than 9 days ago.\n"
    assert [batch.pk for batch in Batch.objects.all()] == [young.pk]
    assert Task.objects.count() == 2


def test_retention_days_is_the_default(finished, settings):
    settings.RETENTION_DAYS = 5
    finished(4)
    finished(6)

    cleanup()

    assert Batch.objects.count() == 1


def test_retention_for_ever_is_said_and_kept(finished, settings):
    settings.RETENTION_DAYS = 0
    finished(1000)

    assert "everything is kept" in cleanup()
    assert Batch.objects.count() == 1


def test_a_batch_that_is_not_finished_stays(finished):
    owner = get_user_model().objects.create_user("bob")
    operations.submit(owner, Submission(kind="noop", items=[Item({})]))

    cleanup("--days", "0")

    assert Batch.objects.count() == 1


@pytest.mark.parametrize("days", ["-1", "soon"])
def test_other_days_are_refused(days):
    with pytest.raises(CommandError, match="not a whole number"):
        cleanup(f"--days={days}")

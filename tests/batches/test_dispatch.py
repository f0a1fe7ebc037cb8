"""Which rows Celery workers are told of, and when again: on the rows, without a broker."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from batches import operations
from batches.models import Queue, Task, Worker
from batches.queue.claim_by_id import claim_by_id
from batches.queue.dispatch import broker_came_back, not_told, tell, tell_again
from batches.queue.walk import Claimant
from batches.queue.windows import readers
from batches.states import BackendName
from batches.submission import Item
from tests.queueing import take

pytestmark = pytest.mark.django_db

NOBODY: frozenset[str] = frozenset()


@pytest.fixture(autouse=True)
def broker(settings, monkeypatch):
    """There is one, as far as a submission knows; nothing is published here."""
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr("batches.dispatch.nudge", lambda: True)


@pytest.fixture
def reader(db):
    def make(*queues: str, slots: int = 2, running: int = 0, name: str = "c1") -> Worker:
        return Worker.objects.create(
            name=name, backend=BackendName.CELERY, host="h", pid=1, queues=list(queues),
            slots=slots, running=running,
        )  # fmt: skip

    return make


def told() -> list[str]:
    names = dict(Task.objects.values_list("pk", "custom_id"))
    return [names[message.task_id] for message in tell(NOBODY, readers())]


def ago(seconds: float) -> None:
    """Let every message be so old."""
    Task.objects.filter(dispatched_at__isnull=False).update(
        dispatched_at=Now() - timedelta(seconds=seconds)
    )


def come(task: Task):
    return claim_by_id(Claimant("c1", BackendName.CELERY), task.pk)


def test_a_window_is_told_and_no_more(make_batch, operator):
    make_batch(operator, 30)
    assert told() == [str(n) for n in range(8)]
    assert told() == []


def test_a_window_grows_with_the_slots_that_read_the_queue(make_batch, operator, reader):
    reader("default", slots=10)
    reader("validation", slots=50, name="c2")
    make_batch(operator, 30)
    assert len(told()) == 20


def test_the_window_is_filled_up_once_half_of_it_has_come(make_batch, operator, reader):
    reader()
    batch = make_batch(operator, 30)
    told()
    tasks = list(batch.tasks.order_by("position"))
    for task in tasks[:3]:
        assert come(task) is not None
    assert told() == []
    come(tasks[3])
    assert told() == ["8", "9", "10", "11"]


def test_only_celery_batches_are_told_and_database_workers_leave_them(make_batch, operator):
    make_batch(operator, items=[Item({}, id="db")], backend="database")
    make_batch(operator, items=[Item({}, id="celery")], backend="auto")
    assert told() == ["celery"]
    assert [item.lease.task_id for item in take()] == [Task.objects.get(custom_id="db").pk]


def test_what_is_urgent_is_told_first_and_nothing_less_urgent_beside_it(
    make_batch, operator, reader
):
    reader()
    make_batch(operator, items=[Item({}, id="low")], priority=1, queue="low_priority")
    urgent = make_batch(operator, items=[Item({}, id="urgent")], priority=9)
    assert told() == ["urgent"]
    assert told() == []
    come(urgent.tasks.get())
    assert told() == ["low"]


def test_a_reader_of_other_queues_is_not_held_back(make_batch, operator, reader):
    reader("default")
    reader("low_priority", name="c2")
    make_batch(operator, items=[Item({}, id="low")], priority=1, queue="low_priority")
    make_batch(operator, items=[Item({}, id="urgent")], priority=9)
    assert told() == ["urgent", "low"]


def test_nothing_waits_behind_a_message_that_an_idle_worker_did_not_take(
    make_batch, operator, reader
):
    worker = reader()
    make_batch(operator, items=[Item({}, id="urgent")], priority=9)
    told()
    make_batch(operator, items=[Item({}, id="low")], priority=1)
    Worker.objects.filter(pk=worker.pk).update(running=2)
    ago(5)
    assert told() == []
    Worker.objects.filter(pk=worker.pk).update(running=1)
    assert told() == ["low"]


def test_limits_count_what_is_out(make_batch, operator):
    batch = make_batch(operator, 9, parallel=2)
    assert told() == ["0", "1"]
    assert told() == []
    come(batch.tasks.get(position=0))
    assert told() == []
    make_batch(operator, 9)
    operations.change_queue(Queue.objects.get(pk="default"), concurrency_limit=5)
    assert len(told()) == 3  # one runs, one is out


def test_a_batch_whose_workspace_no_worker_opens_is_not_told(
    make_batch, admin, reader, make_workspace
):
    place = make_workspace("w")
    worker = reader()
    make_batch(admin, items=[Item({"path": "."}, id="v")], kind="validation", workspace="w")
    assert told() == []
    Worker.objects.filter(pk=worker.pk).update(workspaces=[str(place.pk)])
    assert told() == ["v"]


@pytest.mark.parametrize(
    ("running", "age", "again"),
    [(2, 20, False), (2, 40, True), (1, 5, False), (1, 10, True)],
    ids=["busy", "busy for long", "idle", "idle for long"],
)
def test_what_nobody_came_with_is_told_again(make_batch, operator, reader, running, age, again):
    reader(running=running)
    make_batch(operator, 1)
    told()
    ago(age)
    assert len(tell_again()) == again
    assert tell_again() == []


def test_patience_doubles_until_the_broker_comes_back(make_batch, operator, reader):
    reader(running=2)
    make_batch(operator, 1)
    told()
    for age in (31, 61, 121):
        ago(age)
        assert len(tell_again()) == 1
    ago(200)
    assert tell_again() == []
    assert broker_came_back() == 1
    assert len(tell_again()) == 1


def test_nothing_is_told_again_where_nobody_reads(make_batch, operator):
    make_batch(operator, 1)
    told()
    ago(10_000)
    assert tell_again() == []


def test_a_mark_is_taken_back(make_batch, operator):
    batch = make_batch(operator, 2)
    told()
    assert not_told([batch.tasks.get(position=0).pk]) == 1
    assert told() == ["0"]
    not_told(batch.tasks.values_list("pk", flat=True))
    assert told() == ["0", "1"]


def test_a_message_is_as_urgent_as_its_task(make_batch, operator):
    make_batch(operator, items=[Item({}, priority=7)])
    [message] = tell(NOBODY, ())
    assert (message.priority, message.queue, message.kind) == (7, "default", "noop")
    assert message.message_id == message.task_id


@pytest.mark.parametrize(
    "change",
    [
        {"run_after": Now() + timedelta(hours=1)},
        {"unmet_dependencies": 1},
        {"waiting_for": "model:x"},
        {"state": "cancelled"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_claim_by_id_applies_what_the_row_says(make_batch, operator, change):
    batch = make_batch(operator, 1)
    Task.objects.update(**change)
    assert come(batch.tasks.get()) is None


def test_a_claim_by_id_is_one_lease(make_batch, operator):
    batch = make_batch(operator, 2)
    tell(NOBODY, ())
    claimed = come(batch.tasks.get(position=1))
    assert claimed is not None
    assert claimed.lease.attempt == 1
    assert come(batch.tasks.get(position=1)) is None
    batch.refresh_from_db()
    assert batch.started_at is not None
    task = batch.tasks.get(position=1)
    assert (task.state, task.dispatched_at) == ("running", None)


@pytest.mark.parametrize("what", ["pause", "cancel", "queue", "parallel", "rate"])
def test_a_claim_by_id_heeds_the_batch_and_its_queue(make_batch, operator, what):
    batch = make_batch(operator, 2, parallel=1 if what == "parallel" else None)
    first, second = batch.tasks.order_by("position")
    queue = Queue.objects.get(pk="default")
    match what:
        case "pause":
            operations.pause_batch(batch)
        case "cancel":
            operations.cancel_batch(batch)
        case "queue":
            operations.change_queue(queue, paused=True)
        case "rate":
            operations.change_queue(queue, rate_limit=1)
    assert (come(first) is None) == (what in {"pause", "cancel", "queue"})
    assert come(second) is None


def test_a_dispatch_with_nothing_to_do_is_two_queries(
    make_batch, operator, django_assert_num_queries
):
    make_batch(operator, 30)
    told()
    with django_assert_num_queries(2):
        assert tell(NOBODY, ()) == []

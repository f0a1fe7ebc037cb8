"""When a task may run, in which order, and what people may ask meanwhile: in a real worker."""

from __future__ import annotations

import itertools
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.utils import timezone

from batches import operations
from batches.models import Batch, Queue, Task
from batches.queue.closing import follow_up
from batches.queue.settle import reap
from batches.states import BackendName, OnFailure, TaskState
from batches.submission import Item, Variant
from batches.supervision.slots import HELD_UP_AFTER
from tests.processes.fleet import Fleet, done, outcomes, submit, task_of, until

pytestmark = [pytest.mark.usefixtures("standing"), pytest.mark.long]

WINDOW = 8
"""Messages of a queue that may be in a broker; the database backend has no such thing."""


def item(name: str, **more: Any) -> Item:
    """A task of the kind ``sleep`` that takes so long that a slot holds one at a time."""
    return Item({"seconds": 0.055}, id=name, **more)


def started(*batches: Batch) -> list[str]:
    """The custom ids in the order in which they were started; several may have been at once."""
    tasks = Task.objects.filter(batch__in=batches, started_at__isnull=False)
    order = tasks.order_by("started_at", "lane", "position")
    return list(order.values_list("custom_id", flat=True))


def running(batch: Batch) -> int:
    return Task.objects.filter(batch=batch, state=TaskState.RUNNING).count()


def settled(batch: Batch, number: int) -> None:
    until(
        lambda: Task.objects.unfinished().filter(batch=batch).count() <= batch.total - number,
        what=f"{number} tasks are settled",
    )


def change_low_priority(**changes: Any) -> None:
    operations.change_queue(Queue.objects.get(pk="low_priority"), **changes)


@pytest.fixture
def busy(tmp_path: Path) -> Any:
    """Both slots are taken until it is called."""
    gate = tmp_path / "busy"
    batch = submit("linger", {"gate": str(gate)}, {"gate": str(gate)}, priority=10)
    until(lambda: running(batch) == 2, what="both slots are taken")
    time.sleep(HELD_UP_AFTER + 0.1)  # nothing waits in a slot behind what takes so long
    yield gate.touch
    gate.touch()
    done(batch)


def test_urgent_work_overtakes_what_waits(busy: Any) -> None:
    low = submit("sleep", *(item(f"low{n}") for n in range(20)), priority=1)
    urgent = submit("sleep", *(item(f"urgent{n}") for n in range(10)), priority=9)
    busy()
    done(low), done(urgent)
    order = started(low, urgent)
    last = max(order.index(f"urgent{n}") for n in range(10))
    assert sum(name.startswith("low") for name in order[:last]) <= WINDOW


def test_an_urgent_item_of_a_batch_comes_first(busy: Any) -> None:
    items = [item(f"n{n}") for n in range(20)]
    batch = submit("sleep", *items[:-1], item("first", priority=10), priority=2)
    busy()
    done(batch)
    assert started(batch).index("first") <= 1


def test_equal_priorities_run_in_the_order_of_submission(busy: Any) -> None:
    one = submit("sleep", *(item(f"a{n}") for n in range(5)), parallel=1)
    two = submit("sleep", *(item(f"b{n}") for n in range(5)), parallel=1)
    busy()
    done(one), done(two)
    assert started(one) == [f"a{n}" for n in range(5)]
    assert started(two) == [f"b{n}" for n in range(5)]


def test_a_priority_may_change_while_tasks_wait(busy: Any) -> None:
    first = submit("sleep", *(item(f"a{n}") for n in range(20)), priority=5)
    second = submit("sleep", *(item(f"b{n}") for n in range(10)), priority=5)
    operations.change_batch(second, priority=9)
    busy()
    done(first), done(second)
    order = started(first, second)
    last = max(order.index(f"b{n}") for n in range(10))
    assert sum(name.startswith("a") for name in order[:last]) <= WINDOW


def test_a_paused_batch_starts_nothing_until_it_is_resumed(busy: Any) -> None:
    batch = submit("noop", *({} for _ in range(20)))
    operations.pause_batch(batch)
    busy()
    other = done(submit("noop", {}))
    assert other.summary["succeeded"] == 1
    assert set(batch.tasks.values_list("attempt", flat=True)) == {0}
    operations.resume_batch(batch)
    assert done(batch).summary["succeeded"] == 20


def test_a_paused_queue_starts_nothing_until_it_goes_on() -> None:
    change_low_priority(paused=True)
    batch = submit("noop", {}, {}, queue="low_priority")
    done(submit("noop", {}))
    assert running(batch) == 0
    change_low_priority(paused=False)
    assert done(batch).summary["succeeded"] == 2


def test_parallel_bounds_what_runs_at_once() -> None:
    batch = done(submit("sleep", *({"seconds": 0.1} for _ in range(4)), parallel=1))
    times = sorted((task.started_at, task.finished_at) for task in batch.tasks.all())
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(times))


def test_a_limit_of_a_queue_holds_over_its_batches() -> None:
    change_low_priority(concurrency_limit=1)
    batches = [
        submit("sleep", {"seconds": 0.1}, {"seconds": 0.1}, queue="low_priority") for _ in range(2)
    ]
    times = sorted(
        (task.started_at, task.finished_at) for batch in batches for task in done(batch).tasks.all()
    )
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(times))


def test_a_limit_of_a_model_holds_over_batches_and_holds_up_nothing_else() -> None:
    operations.add_model("big", parallel=1)
    slow, quick = {"models": ["big"], "seconds": 0.1}, {"models": ["free"], "seconds": 0.0}
    # The first one lasts until a busy machine has come to the third.
    one = submit("modelled", slow | {"seconds": 2.0}, slow, quick)
    other = submit("modelled", slow | {"models": ["free", "big"]}, slow, queue="low_priority")
    times = sorted(
        (task.started_at, task.finished_at)
        for batch in (one, other)
        for task in done(batch).tasks.all()
        if "big" in task.payload["models"]
    )
    assert len(times) == 4
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(times))
    # Its message may come to a process of a pool before that of the first one comes to another.
    begun = Task.objects.filter(batch=one).order_by("started_at")
    assert ["free"] in [task.payload["models"] for task in begun[:2]]


def test_one_attempt_at_a_time_has_a_workspace_to_itself(tmp_path: Path) -> None:
    User.objects.create_superuser("tester")
    folder, file = tmp_path / "space", tmp_path / "lines"
    folder.mkdir()
    operations.add_workspace("alone", folder)
    payload = {"file": str(file), "seconds": 0.1}
    batch = done(submit("alone", *[payload] * 6, workspace="alone"))
    assert batch.summary["succeeded"] == 6
    assert set(batch.tasks.values_list("attempt", flat=True)) == {1}
    written = [line.split() for line in file.read_text().splitlines()]
    assert [what for _, what in written] == ["begins", "ends"] * 6
    assert all(
        begun == ended for (begun, _), (ended, _) in zip(written[::2], written[1::2], strict=True)
    )


def test_a_rate_limit_bounds_the_starts_of_a_minute() -> None:
    change_low_priority(rate_limit=3)
    batch = submit("noop", *({} for _ in range(6)), queue="low_priority")
    settled(batch, 3)
    done(submit("noop", {}))
    assert Task.objects.filter(batch=batch, attempt=1).count() == 3
    change_low_priority(rate_limit=None)
    assert done(batch).summary["succeeded"] == 6


def test_a_task_waits_for_those_it_depends_on() -> None:
    batch = submit(
        "sleep",
        Item({"seconds": 0}, id="last", depends_on=("a", "b")),
        Item({"seconds": 0.2}, id="a"),
        Item({"seconds": 0}, id="b"),
    )
    assert done(batch).summary["succeeded"] == 3
    assert started(batch)[-1] == "last"
    a, last = batch.tasks.get(custom_id="a"), batch.tasks.get(custom_id="last")
    assert a.finished_at <= last.started_at


def test_what_depends_on_a_failure_fails_and_is_revived_with_it() -> None:
    batch = submit(
        "misbehave",
        Item({"how": "flaky", "until": 2}, id="a"),
        Item({"how": "flaky", "until": 1}, id="b", depends_on=("a",)),
        max_attempts=1,
    )
    assert done(batch).summary["failures"] == {"error": 1, "dependency": 1}
    assert batch.tasks.get(custom_id="b").attempt == 0
    operations.retry_task(batch.tasks.get(custom_id="a"))
    assert done(batch).summary["succeeded"] == 2


def test_a_batch_waits_for_those_it_comes_after(tmp_path: Path) -> None:
    first = submit("linger", {"gate": str(tmp_path / "gate")})
    second = submit("noop", {}, after=(first.pk,))
    until(lambda: running(first) == 1, what="the first runs")
    done(submit("noop", {}))
    assert task_of(second).attempt == 0
    (tmp_path / "gate").touch()
    assert done(second).summary["succeeded"] == 1
    assert task_of(first).finished_at <= task_of(second).started_at


def test_what_comes_after_a_failure_fails_and_runs_once_that_was_retried() -> None:
    payload = {"how": "flaky", "until": 2}
    first = submit("misbehave", payload, max_attempts=1)
    second = submit("noop", {}, after=(first.pk,))
    assert done(second).summary["failures"] == {"dependency": 1}
    operations.retry_batch(done(first))
    assert done(first).summary["succeeded"] == 1
    until(lambda: task_of(second).state == TaskState.SUCCEEDED, what="the second one was revived")
    done(second)


def test_a_retry_gives_a_fresh_budget() -> None:
    batch = done(submit("misbehave", {"how": "flaky", "until": 4}, max_attempts=1))
    for attempts in (2, 3):
        operations.retry_batch(batch)
        done(batch)
        assert task_of(batch).attempt == attempts
    operations.retry_task(task_of(batch))
    until(lambda: task_of(batch).state == TaskState.SUCCEEDED, what="the task succeeded")
    assert outcomes(task_of(batch)) == ["error", "error", "error", "succeeded"]
    assert done(batch).summary["succeeded"] == 1


def test_another_attempt_waits_for_its_time() -> None:
    batch = done(submit("misbehave", {"how": "again", "after": 1}, max_attempts=2))
    first, second = task_of(batch).attempts.order_by("number")
    assert second.started_at - first.finished_at >= timedelta(seconds=1)
    assert task_of(batch).failure == "error"


def test_a_waiting_task_is_cancelled_at_once(busy: Any) -> None:
    batch = submit("noop", {}, {})
    operations.cancel_task(task_of(batch))
    assert task_of(batch).state == TaskState.CANCELLED
    busy()
    assert done(batch).summary["cancelled"] == 1
    assert task_of(batch).attempt == 0


def test_a_cancelled_batch_ends_with_what_runs_and_what_waits(tmp_path: Path) -> None:
    never = {"gate": str(tmp_path / "never")}
    batch = submit("linger", *(never for _ in range(20)))
    until(lambda: running(batch) == 2, what="two of them run")
    operations.cancel_batch(batch)
    assert done(batch).summary["cancelled"] == 20
    # A database worker may have claimed a few more, which waited in their slots.
    assert Task.objects.filter(batch=batch, attempt__gt=0).count() < 10


def test_what_was_cancelled_may_be_retried(busy: Any) -> None:
    batch = submit("noop", {}, {})
    operations.cancel_batch(batch)
    done(batch)
    operations.retry_batch(batch)
    busy()
    assert done(batch).summary["succeeded"] == 2


def test_the_first_failure_stops_a_batch_that_asks_for_it() -> None:
    items = [Item({"how": "reject"}), *(Item({"how": "flaky", "until": 1}) for _ in range(20))]
    batch = done(submit("misbehave", *items, on_failure=OnFailure.STOP, parallel=1))
    assert batch.summary == {
        "succeeded": 0,
        "failed": 1,
        "cancelled": 20,
        "failures": {"rejected": 1},
    }


def test_a_scheduled_batch_starts_at_its_time() -> None:
    at = timezone.now() + timedelta(seconds=1)
    batch = done(submit("noop", {}, {}, run_at=at))
    assert batch.started_at >= at
    assert batch.started_at - at < timedelta(seconds=2)


def test_the_deadline_fails_what_still_waits(busy: Any) -> None:
    batch = done(submit("noop", {}, {}, deadline=timezone.now() + timedelta(seconds=1)))
    assert batch.summary["failures"] == {"timeout": 2}
    assert set(batch.tasks.values_list("attempt", flat=True)) == {0}


def test_an_item_may_have_a_timeout_of_its_own(tmp_path: Path) -> None:
    slow = Item({"gate": str(tmp_path / "never")}, timeout=1)
    batch = done(submit("linger", slow, max_attempts=1))
    assert (task_of(batch).failure, outcomes(task_of(batch))) == ("timeout", ["timeout"])


def test_a_dead_letter_has_used_its_budget() -> None:
    batch = done(submit("misbehave", {"how": "again"}, max_attempts=3))
    assert outcomes(task_of(batch)) == ["error"] * 3
    assert Task.objects.dead_letters().get() == task_of(batch)


def test_the_answer_of_an_attempt_whose_lease_ran_out_is_void(tmp_path: Path) -> None:
    payload = {"gate": str(tmp_path / "gate")}
    batch = submit("linger", payload)
    until(lambda: running(batch) == 1, what="it runs")
    Task.objects.filter(batch=batch).update(leased_until=Now() - timedelta(seconds=1))
    follow_up(reap())
    until(lambda: task_of(batch).attempt == 2, what="it runs again, beside the first attempt")
    (tmp_path / "gate-1").touch()
    done(submit("noop", {}))
    assert task_of(batch).state == TaskState.RUNNING
    (tmp_path / "gate-2").touch()
    done(batch)
    assert outcomes(task_of(batch)) == ["lost", "succeeded"]
    assert task_of(batch).result == {"attempt": 2}


def test_a_file_is_written_once_for_each_task(tmp_path: Path) -> None:
    file = tmp_path / "appended"
    batch = done(submit("append", *({"file": str(file)} for _ in range(40))))
    written = [line.split() for line in file.read_text().splitlines()]
    assert sorted(written) == sorted([str(task.pk), "1"] for task in batch.tasks.all())


def test_a_batch_of_a_real_kind_runs_in_its_workspace() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o777)
        (root / "good.py").write_text("x = 1\n")
        (root / "bad.py").write_text("import os\n")
        User.objects.create_superuser("tester")
        operations.add_workspace("w", root)
        payloads = [{"path": "good.py"}, {"path": "bad.py"}]
        batch = done(submit("validation", *payloads, workspace="w"))
        assert batch.summary["failures"] == {"rejected": 1}
        assert "F401" in str(task_of(batch, 1).result)


@pytest.mark.backends("redis", "rabbitmq")
def test_a_doubled_message_runs_its_task_once(busy: Any, standing: Fleet) -> None:
    from batches.backends.celery import publish
    from batches.messages import Message

    batch = submit("noop", {}, {})
    task = task_of(batch)
    publish([Message(task.pk, "noop", "default", 5, task.pk)] * 3)
    busy()
    assert done(batch).summary["succeeded"] == 2
    done(submit("noop", {}))
    assert outcomes(task_of(batch)) == ["succeeded"]


@pytest.mark.backends("redis", "rabbitmq")
def test_a_stray_message_runs_nothing_that_may_not_run(standing: Fleet) -> None:
    from batches.backends.celery import publish
    from batches.messages import Message

    later = submit("noop", {}, run_at=timezone.now() + timedelta(hours=1))
    change_low_priority(paused=True)
    paused = submit("noop", {}, queue="low_priority")
    cancelled = submit("noop", {}, run_at=timezone.now() + timedelta(hours=1))
    operations.cancel_batch(cancelled)
    for batch in (later, paused, cancelled):
        task = task_of(batch)
        publish([Message(task.pk, "noop", "default", 5, task.pk)])
    done(submit("noop", *({} for _ in range(10))))
    assert [task_of(batch).attempt for batch in (later, paused, cancelled)] == [0, 0, 0]
    change_low_priority(paused=False)
    done(paused)
    operations.cancel_batch(later)


@pytest.mark.backends("redis", "rabbitmq")
def test_a_batch_may_be_moved_between_backends(busy: Any, standing: Fleet) -> None:
    batch = submit("noop", *({} for _ in range(10)), backend="celery")
    until(lambda: task_of(batch).dispatched_at, what="a worker was told of it")
    operations.move_batch(batch, BackendName.DATABASE)
    assert not batch.tasks.filter(dispatched_at__isnull=False).exists()
    busy()
    done(submit("noop", {}))
    assert set(batch.tasks.values_list("attempt", flat=True)) == {0}
    operations.move_batch(batch, BackendName.CELERY)
    assert done(batch).summary["succeeded"] == 10


def test_each_variant_of_a_batch_follows_the_rules_of_its_queue() -> None:
    change_low_priority(paused=True)
    try:
        two = (Variant("here"), Variant("there", queue="low_priority"))
        batch = submit("sleep", item("one"), item("two"), variants=two)
        here, there = (batch.tasks.filter(variant=name) for name in ("here", "there"))
        until(lambda: not here.unfinished().exists(), what="the one variant is done")
        assert set(there.values_list("state", "attempt")) == {("queued", 0)}
    finally:
        change_low_priority(paused=False)
    assert done(batch).summary["succeeded"] == 4

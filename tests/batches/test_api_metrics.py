"""Figures for Prometheus: read by its own parser, right, and cheap however long the history is."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from batches import operations
from batches.models import Attempt, Batch, Queue, Resource, Task, Worker
from batches.queue.backlog import waiting
from batches.states import AttemptOutcome
from batches.submission import Item
from tests.batches.test_claim_plans import (
    FEW,
    analyze,
    fill,
    postgres_plan,
    reads,
    statements,
    work_of,
)

pytestmark = pytest.mark.django_db

SUCCEEDED, REJECTED, ERROR = (
    AttemptOutcome.SUCCEEDED,
    AttemptOutcome.REJECTED,
    AttemptOutcome.ERROR,
)
PROMETHEUS_ACCEPTS = (
    "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
Figures = dict[str, dict[tuple[str, ...], float]]


@pytest.fixture
def client(client_of, viewer):
    return client_of(viewer)


def scraped(client: Any, address: str = "/metrics") -> Figures:
    """Name → values of its labels → value."""
    response = client.get(address, headers={"accept": PROMETHEUS_ACCEPTS})
    assert response.status_code == 200, response.content
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    figures: Figures = {}
    for found in text_string_to_metric_families(response.content.decode()):
        assert found.type == "gauge"
        assert found.documentation
        values = figures.setdefault(found.name.removeprefix("ollama_coder_"), {})
        for sample in found.samples:
            labels = tuple(sample.labels[name] for name in sorted(sample.labels))
            assert labels not in values
            values[labels] = sample.value
    return figures


def work(name: str, **fields: Any) -> Worker:
    return Worker.objects.create(
        name=name, backend="database", host="h", pid=1, slots=fields.pop("slots", 2), **fields
    )


def age(batch: Batch, seconds: float) -> None:
    Batch.objects.filter(pk=batch.pk).update(sealed_at=Now() - timedelta(seconds=seconds))


def test_tasks_are_counted_whoever_owns_them(client, stranger, make_batch, start, finish):
    make_batch(stranger, 3, kind="append", max_attempts=1, priority=9)
    finish(SUCCEEDED, REJECTED, ERROR)
    make_batch(stranger, 4, queue="tests")
    finish(SUCCEEDED)
    start(1)
    figures = scraped(client)
    assert {labels: n for labels, n in figures["tasks"].items() if n} == {
        ("append", "default", "succeeded"): 1,
        ("append", "default", "failed"): 2,
        ("noop", "tests", "queued"): 2,
        ("noop", "tests", "running"): 1,
        ("noop", "tests", "succeeded"): 1,
    }
    assert len(figures["queue_depth"]) == 7
    assert {queue: n for queue, n in figures["queue_depth"].items() if n} == {("tests",): 2}


def test_an_optional_slash(client):
    assert scraped(client, "/metrics/").keys() == scraped(client).keys()


def test_a_paused_queue_is_told(client, operator, make_batch):
    make_batch(operator, 1, queue="tests")
    make_batch(operator, 1)
    operations.change_queue(Queue.objects.get(name="tests"), paused=True)
    figures = scraped(client)
    assert [queue for queue, paused in figures["queue_paused"].items() if paused] == [("tests",)]
    assert list(figures["queue_oldest_waiting_seconds"]) == [("default",)]


def test_the_oldest_claimable_batch_of_a_queue_is_told(client, operator, make_batch, start):
    age(make_batch(operator, 2, priority=0), 100)
    age(make_batch(operator, items=[Item({}, priority=7)]), 50)
    age(make_batch(operator, 1, queue="tests"), 10)
    oldest = scraped(client)["queue_oldest_waiting_seconds"]
    assert oldest[("default",)] == pytest.approx(100, abs=5)
    assert oldest[("tests",)] == pytest.approx(10, abs=5)
    start(4)
    assert "queue_oldest_waiting_seconds" not in scraped(client) or not any(
        scraped(client)["queue_oldest_waiting_seconds"]
    )


@pytest.mark.parametrize(
    "change",
    [
        {"paused_at": timezone.now()},
        {"cancel_requested_at": timezone.now()},
        {"unmet_after": 1},
        {"sealed_at": None},
        {"deadline": timezone.now() - timedelta(seconds=1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_cannot_be_claimed_does_not_wait(operator, make_batch, change):
    batch = make_batch(operator, 1)
    assert set(waiting()) == {"default"}
    Batch.objects.filter(pk=batch.pk).update(**change)
    assert waiting() == {}


@pytest.mark.parametrize(
    "change",
    [
        {"run_after": timezone.now() + timedelta(hours=1)},
        {"unmet_dependencies": 1},
        {"waiting_for": "model:x"},
        {"dispatched_at": timezone.now()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_task_that_waits_for_something_else_does_not_wait_for_a_worker(
    operator, make_batch, change
):
    batch = make_batch(operator, 2)
    Task.objects.filter(batch=batch, position=0).update(**change)
    assert set(waiting()) == {"default"}
    Task.objects.filter(batch=batch).update(**change)
    assert waiting() == {}


@pytest.mark.parametrize("since", ["run_at", "retried_at"])
def test_waiting_begins_when_the_work_was_due(operator, make_batch, since):
    batch = make_batch(operator, 1)
    age(batch, 1000)
    Batch.objects.filter(pk=batch.pk).update(**{since: Now() - timedelta(seconds=30)})
    assert waiting() == {"default": pytest.approx(30, abs=5)}


def test_workers_that_live_are_summed_up(client):
    work("busy", slots=2, running=5)
    work("half", slots=4, running=1)
    work("stopped", state="stopped", running=1)
    silent = work("silent", running=1)
    Worker.objects.filter(pk=silent.pk).update(seen_at=timezone.now() - timedelta(minutes=5))
    figures = scraped(client)
    assert (figures["workers"], figures["slots"], figures["slots_busy"]) == (
        {(): 2}, {(): 6}, {(): 3},
    )  # fmt: skip


def test_the_last_minute_is_counted_by_outcome(client, operator, make_batch, finish):
    make_batch(operator, 6, max_attempts=1)
    finish(SUCCEEDED, SUCCEEDED, ERROR)
    Attempt.objects.update(finished_at=F("finished_at") - timedelta(minutes=2))
    assert not any(scraped(client)["attempts_last_minute"].values())
    finish(SUCCEEDED, REJECTED, REJECTED)
    ended = scraped(client)["attempts_last_minute"]
    assert len(ended) == len(AttemptOutcome)
    assert {outcome: n for outcome, n in ended.items() if n} == {
        ("succeeded",): 1,
        ("rejected",): 2,
    }


def test_what_is_away_or_unfinished_is_counted(client, operator, make_batch):
    Resource.objects.create(name="model:x", kind="noop", away_since=timezone.now())
    Resource.objects.create(name="model:y", kind="noop")
    batch = make_batch(operator, 3)
    Batch.objects.filter(pk=batch.pk).update(sealed_at=None)
    figures = scraped(client)
    assert figures["resources_away"] == {(): 1}
    assert figures["batches_unsealed"] == {(): 1}
    assert figures["tasks"] == {}


def test_a_scrape_costs_the_same_however_much_there_is(
    client, operator, make_batch, finish, django_assert_num_queries
):
    make_batch(operator, 1)
    # Token 2, permissions 2, tasks 3, queues, waiting, workers, attempts 2, resources, unsealed.
    with django_assert_num_queries(14):
        scraped(client)
    for queue in ("default", "tests", "validation"):
        make_batch(operator, 3, queue=queue)
    finish(*[SUCCEEDED] * 8)
    with django_assert_num_queries(14):
        scraped(client)


def test_finished_tasks_are_not_read(client):
    now = timezone.now()
    fill(20_000, state="succeeded", finished_at=now)
    Batch.objects.update(summary={"succeeded": 20_000})
    for _ in range(20):
        fill(5)
    analyze()
    figures = scraped(client)
    assert figures["tasks"]["noop", "default", "succeeded"] == 20_000
    assert figures["tasks"]["noop", "default", "queued"] == 100
    [probe] = statements(waiting)
    assert "task_claim" in reads(probe)[0], probe
    for statement in statements(lambda: scraped(client)):
        assert not reads(statement)[1], statement
    assert work_of(lambda: scraped(client)) < FEW


def test_attempts_are_found_through_their_ids(client):
    now, task = timezone.now(), fill(1).tasks.get()
    Attempt.objects.bulk_create(
        Attempt(
            task=task, number=number, worker="w", outcome=SUCCEEDED, started_at=now,
            finished_at=now - timedelta(hours=number > 5),
        )
        for number in range(5000, 0, -1)
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE batches_attempt")
    with CaptureQueriesContext(connection) as queries:
        assert scraped(client)["attempts_last_minute"][("succeeded",)] == 5
    asked = [q["sql"] for q in queries.captured_queries if '"batches_attempt"' in q["sql"]]
    assert len(asked) == 2
    if connection.vendor == "postgresql":
        for statement in asked:
            [scan] = [node for node in postgres_plan(statement) if "Relation Name" in node]
            assert scan["Index Name"] == "batches_attempt_pkey"
    else:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {asked[1]}")
            assert "USING INTEGER PRIMARY KEY (rowid>?)" in cursor.fetchall()[0][3]


@pytest.mark.sqlite_only
def test_a_worker_does_without_prometheus():
    code = (
        "import sys, django; django.setup(); import batches.management.commands.worker; "
        "assert 'batches.consumers.poller' in sys.modules; "
        "sys.exit('prometheus_client' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)

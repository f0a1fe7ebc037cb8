"""What the queue reads among 70,000 tasks: the rows it needs, found through an index."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from batches.lanes import lane_of
from batches.models import Batch, ModelProfile, Queue, Share, Task
from batches.models.batch import new_number
from batches.queue import lease as leases
from batches.queue.claim import Lease
from batches.queue.closing import close_finished, overlooked_dependents, unfinished_business
from batches.queue.dispatch import TAKE_A_PLACE
from batches.queue.model_limits import places_left
from batches.queue.schedule import seconds_until_due, wake_due
from batches.queue.settle import reap, settle
from batches.queue.verdicts import Verdict
from batches.states import AttemptOutcome
from tests.queueing import take

POSTGRES = connection.vendor == "postgresql"
CLAIMED = 50
FEW = 2000 if POSTGRES else 1000
"""Rows on PostgreSQL, hundreds of its own steps on SQLite: one look at every task costs 70,000
rows, or more than 3,500 hundreds of steps."""


def fill(number: int, *, priority: int = 5, state: str = "queued", **columns: Any) -> Batch:
    """A batch with so many tasks, inserted by the database itself."""
    now = timezone.now()
    done = {"state": "done", "finished_at": now} if state == "succeeded" else {}
    batch = Batch.objects.create(
        kind="noop", backend="database", queue_id="default", number=new_number(), timeout=60,
        started_at=now, sealed_at=now, total=number, paused_at=columns.pop("paused_at", None),
        parallel=columns.pop("parallel", None), **done,
    )  # fmt: skip
    Share.objects.create(number=batch.number, batch=batch, queue=batch.queue)
    task = Task(
        batch=batch, position=0, custom_id="", kind="noop", payload={}, priority=priority,
        priority_from="batch", lane=lane_of(priority, batch.number), timeout=60, max_attempts=3,
        state=state, created_at=now, **columns,
    )  # fmt: skip
    generated = {
        "id": "gen_random_uuid()" if POSTGRES else "lower(hex(randomblob(16)))",
        "position": "n",
        "custom_id": "CAST(n AS text)",
    }
    names, values, parameters = [], [], []
    for field in Task._meta.concrete_fields:
        names.append(field.column)
        values.append(generated.get(field.column, "%s"))
        if field.column not in generated:
            parameters.append(
                field.get_db_prep_save(getattr(task, field.attname), connection=connection)
            )
    numbers = (
        "generate_series(1, %s) AS n"
        if POSTGRES
        else "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < %s) "
        "SELECT n FROM s) AS s"
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO batches_task ({', '.join(names)}) "
            f"SELECT {', '.join(values)} FROM {numbers}",
            [*parameters, number],
        )
    return batch


@pytest.fixture(scope="module")
def many(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[dict[str, Any]]:
    """Finished, running and waiting tasks; then what must not be in a claim's way, before them.

    Yields the work of a claim without that.
    """
    now = timezone.now()
    with django_db_blocker.unblock():
        Queue.objects.get_or_create(pk="default")
        kept = [
            fill(20_000, state="succeeded", finished_at=now),
            fill(1_000, state="running", attempt=1, leased_until=now + timedelta(hours=1)),
            fill(20, state="running", attempt=1, leased_until=now - timedelta(hours=1)),
            fill(9_000),
            fill(500, run_after=now - timedelta(seconds=1)),
        ]
        analyze()
        before = work_of(lambda: take(CLAIMED))
        fill(20_000, priority=10, paused_at=now)
        fill(20_000, priority=9, run_after=now + timedelta(hours=1))
        analyze()
        assert Task.objects.count() >= 70_000
        yield {"before": before, "batches": kept}
        with connection.cursor() as cursor:
            for table in ("batches_task", "batches_share", "batches_batch"):
                cursor.execute(f"TRUNCATE {table} CASCADE" if POSTGRES else f"DELETE FROM {table}")


def analyze() -> None:
    """As autovacuum does after a while; SQLite is left as it is shipped, without statistics."""
    if POSTGRES:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE batches_task, batches_batch")


def statements(work: Callable[[], Any]) -> list[str]:
    """The statements about tasks that the work runs."""
    with CaptureQueriesContext(connection) as queries:
        work()
    return [
        # Of a statement that ran many times, SQLite's log has the marks for its parameters.
        re.sub(r"^\d+ times: ", "", query["sql"]).replace("%%", "%").replace("%s", "NULL")
        for query in queries.captured_queries
        if re.search(r"\bbatches_task\b", query["sql"])
    ]


# -- PostgreSQL -----------------------------------------------------------------------------------


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def postgres_plan(statement: str, *, run: bool = False) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON{', ANALYZE' if run else ''}) {statement}")
        [found] = cursor.fetchone()
    found = json.loads(found) if isinstance(found, str) else found
    return list(nodes(found[0]["Plan"]))


def rows_read(statement: str) -> int:
    """Rows taken from the task table and its indexes, those that a filter threw away included."""
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in postgres_plan(statement, run=True)
        if node.get("Relation Name") == "batches_task" and "Scan" in node["Node Type"]
    )


# -- both -----------------------------------------------------------------------------------------


def reads(statement: str) -> tuple[set[str], list[str]]:
    """Names of the indexes that are used, and what is read of the task table without one."""
    if POSTGRES:
        plan = postgres_plan(statement)
        return (
            {node["Index Name"] for node in plan if "Index Name" in node},
            [
                node["Node Type"]
                for node in plan
                if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "batches_task"
            ],
        )
    aliases = {"batches_task", *re.findall(r"\bbatches_task (?:AS )?(\w+)", statement)}
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}")
        lines = [row[3] for row in cursor.fetchall()]
    return (
        {name for line in lines for name in re.findall(r"INDEX (\w+)", line)},
        [
            line
            for line in lines
            if (scan := re.match(r"SCAN (\w+)(?! USING INDEX task_)", line)) and scan[1] in aliases
        ],
    )


def work_of(work: Callable[[], Any]) -> int:
    """How much is read for the work: rows on PostgreSQL, hundreds of SQLite's own steps there."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    with transaction.atomic():
        if POSTGRES:
            steps = sum(rows_read(statement) for statement in statements(work))
        else:
            connection.connection.set_progress_handler(step, 100)
            work()
            connection.connection.set_progress_handler(None, 0)
        transaction.set_rollback(True)
    return steps


def successes(held: list[Lease]) -> list[Verdict]:
    return [Verdict(lease, AttemptOutcome.SUCCEEDED) for lease in held]


def some_leases(number: int = 20) -> list[Lease]:
    found = Task.objects.filter(state="running", leased_until__gt=timezone.now())[:number]
    return [Lease(pk, attempt) for pk, attempt in found.values_list("pk", "attempt")]


@pytest.mark.parametrize(
    ("work", "index"),
    [
        pytest.param(lambda held: take(CLAIMED), "task_claim", id="claim"),
        pytest.param(lambda held: wake_due(), "task_run_after", id="wake_due"),
        pytest.param(lambda held: seconds_until_due(), "task_run_after", id="seconds_until_due"),
        pytest.param(lambda held: reap(), "task_lease", id="reap"),
        pytest.param(leases.renew, "", id="renew"),
        pytest.param(leases.cancel_wanted, "", id="cancel_wanted"),
        pytest.param(lambda held: settle(successes(held)), "", id="settle"),
        pytest.param(lambda held: unfinished_business(), "task_batch_state", id="upkeep"),
        pytest.param(lambda held: overlooked_dependents(), "", id="overlooked_dependents"),
    ],
)
def test_it_reads_only_the_rows_it_needs(many, db, work, index):
    held = some_leases()
    used: set[str] = set()
    for statement in statements(lambda: work(held)):
        indexes, scans = reads(statement)
        assert not scans, statement
        assert indexes, statement
        used |= indexes
    assert index in used or not index
    assert work_of(lambda: work(held)) < FEW


def test_every_statement_of_a_claim_finds_its_rows_in_the_order_of_the_claim(many, db):
    assert all("task_claim" in reads(statement)[0] for statement in statements(lambda: take(50)))


def test_every_look_for_expired_leases_goes_through_their_index(many, db):
    looks = [statement for statement in statements(reap) if "leased_until <" in statement]
    assert looks
    assert all("task_lease" in reads(statement)[0] for statement in looks)


def test_a_limit_is_counted_through_an_index(many, db):
    Batch.objects.filter(tasks__state="queued").update(parallel=2000)
    Queue.objects.filter(pk="default").update(concurrency_limit=2000)
    counts = [
        statement
        for statement in statements(lambda: take(CLAIMED))
        if statement.startswith("SELECT count(*)")
    ]
    assert counts
    for statement in counts:
        indexes, scans = reads(statement)
        assert indexes
        assert not scans, statement


def test_a_limit_of_a_model_is_counted_through_indexes(many, db):
    ModelProfile.objects.create(name="big", parallel=2000)
    Batch.objects.filter(tasks__state="queued").update(demands=[["model:big"]])
    claims = statements(lambda: take(CLAIMED))
    told = statements(lambda: places_left(["model:big"], taken_by=TAKE_A_PLACE))
    counts = [each for each in [*claims, *told] if each.startswith("SELECT n.value")]
    assert len(counts) >= 3
    for statement in counts:
        indexes, scans = reads(statement)
        assert indexes
        assert not scans, statement
    assert all("task_dispatched" in reads(statement)[0] for statement in told)
    assert work_of(lambda: places_left(["model:big"], taken_by=TAKE_A_PLACE)) < FEW


def test_tasks_whose_model_has_no_place_left_cost_a_claim_nothing(many, db):
    before = work_of(lambda: take(CLAIMED))
    ModelProfile.objects.create(name="big", parallel=1)
    running = Task.objects.filter(state="running").values("pk")[:1]
    Task.objects.filter(pk__in=running).update(needs=["model:big"])
    full = fill(20_000, priority=10, needs=["model:big"])
    Batch.objects.filter(pk=full.pk).update(demands=[["model:big"]])
    assert take(1)[0].batch_id == many["batches"][3].pk
    # Beside the claim: the running tasks are counted.
    assert work_of(lambda: take(CLAIMED)) <= before + FEW


def test_whether_a_batch_is_finished_is_seen_without_looking_at_its_tasks(many, db):
    for batch in many["batches"]:
        for statement in statements(lambda batch=batch: close_finished([batch.pk])):
            indexes, scans = reads(statement)
            assert not scans, statement
            assert indexes, statement
        assert work_of(lambda batch=batch: close_finished([batch.pk])) < 50


def test_paused_and_scheduled_tasks_in_front_cost_a_claim_nothing(many, db):
    assert take(1)[0].batch_id == many["batches"][3].pk
    assert work_of(lambda: take(CLAIMED)) <= many["before"] * 1.05 + 3

"""Rows inserted in bulk are those that the ORM would have made."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from batches.alike import Alike
from batches.models import Task
from batches.models.batch import new_id
from batches.states import PriorityFrom

AWKWARD: dict[str, Any] = {
    "tab\tname": 'back\\slash \\N \\. "quote"\r\nline \x7f\u2028 größe 名 %s',
    "list": [None, True, 1.5, 10**15, {"deep": []}],
    "": "",
}
OWN = ("id", "position", "custom_id", "payload", "needs")


def _as_stored(position: int) -> dict[str, Any]:
    """The columns of a task as the database has them, but for those that tell tasks apart."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM batches_task WHERE position = %s", [position])
        names = [column[0] for column in cursor.description]
        row = dict(zip(names, cursor.fetchone(), strict=True))
    return {name: row[name] for name in row if name not in {"id", "position", "created_at"}}


@pytest.mark.parametrize("payload", [AWKWARD, {}, "x\ty", 3])
def test_a_row_is_as_the_orm_makes_it(make_batch, operator, payload):
    batch = make_batch(operator, 1)
    first = batch.tasks.get()
    shared = {
        "batch": batch,
        "kind": "noop",
        "priority": first.priority,
        "priority_from": PriorityFrom.ITEM,
        "lane": first.lane,
        "timeout": 60,
        "max_attempts": 3,
        "run_after": batch.created_at,
    }
    own = {"custom_id": "a\\t\t1", "payload": payload, "needs": ["mcp:x"]}
    Alike(Task(**shared), *OWN).insert([(new_id(), 9, *own.values())])
    bulk = _as_stored(9)
    assert Task.objects.get(position=9).payload == payload
    Task.objects.filter(position=9).delete()
    Task(position=9, **shared, **own).save()
    assert bulk == _as_stored(9)


def test_many_rows_are_inserted_in_their_order(make_batch, operator):
    batch = make_batch(operator, 1)
    first = batch.tasks.get()
    pattern = Task(
        batch=batch, kind="noop", priority=5, priority_from=PriorityFrom.ITEM, lane=first.lane,
        timeout=60, max_attempts=3,
    )  # fmt: skip
    Alike(pattern, *OWN).insert((new_id(), n, f"i{n}", {"n": n}, []) for n in range(1, 3001))
    stored = Task.objects.filter(position__gt=0).order_by("position")
    assert [task.payload["n"] for task in stored] == list(range(1, 3001))

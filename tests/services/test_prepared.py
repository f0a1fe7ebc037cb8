"""Statements that PostgreSQL plans once."""

from __future__ import annotations

import pytest
from django.db import connection

from batches.consumers.celery_record import CeleryRecord
from batches.queue.settle import settle
from batches.queue.verdicts import Verdict
from batches.states import AttemptOutcome
from tests.queueing import take

pytestmark = pytest.mark.postgres_only


def test_an_answer_is_settled_by_one_statement_that_the_server_knows(
    submit, django_assert_num_queries
):
    submit(*"abcdefghi")
    first, *others = take()
    record = CeleryRecord()
    record.of(first, "celery@here")
    with django_assert_num_queries(1):
        settle([Verdict(first.lease, AttemptOutcome.SUCCEEDED)], record)
    for one in others:
        record.of(one, "celery@here")
        settle([Verdict(one.lease, AttemptOutcome.SUCCEEDED)], record)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT generic_plans FROM pg_prepared_statements "
            "WHERE statement LIKE '%counted%' AND statement LIKE '%taskresult%'"
        )
        [(generic,)] = cursor.fetchall()
    assert generic > 0, "it was planned each time"

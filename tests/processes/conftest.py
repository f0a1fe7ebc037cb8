"""The database as worker processes see it, and workers that end with their test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django_celery_results.models import TaskResult
from pytest_django import DjangoDbBlocker

from batches.models import (
    Artefact,
    Attempt,
    Batch,
    Chore,
    Decision,
    Dependency,
    LogLine,
    McpServer,
    ModelProfile,
    Queue,
    Resource,
    Start,
    Task,
    Worker,
    Workspace,
)
from tests.processes.fleet import Fleet

WRITTEN = (
    Artefact, LogLine, Dependency, Decision, Attempt, Task, Batch, Start, Resource, Chore,
    Workspace, McpServer, ModelProfile, User, TaskResult,
)  # fmt: skip
QUEUE = ("name", "priority", "paused_at", "concurrency_limit", "rate_limit")
seven_queues = import_module("batches.migrations.0002_queues_groups_and_tuning")


EMPTY = "SELECT " + ", ".join(
    f"NOT EXISTS (SELECT 1 FROM {model._meta.db_table})" for model in WRITTEN
)


def wipe() -> None:
    """Delete what tests and workers write; what the migrations wrote stays.

    The usual flush between transactional tests would take the queues, the groups and their
    permissions away from every later test. Most tables are empty, and most queues as they were.
    """
    with connection.cursor() as cursor:
        cursor.execute(EMPTY)
        for model, empty in zip(WRITTEN, cursor.fetchone(), strict=True):
            if not empty:
                # What refers to others is gone by now, but for what is a batch's or a user's own.
                rows = model.objects.all()
                rows.delete() if model in {Batch, User} else rows._raw_delete(rows.db)
    made = {(name, level, None, None, None) for name, level in seven_queues.QUEUES.items()}
    if set(Queue.objects.values_list(*QUEUE)) != made:
        Queue.objects.all().delete()
        seven_queues.make_queues(apps, None)


@pytest.fixture
def database_url() -> Iterator[str]:
    """A database of its own on the server under test; "" is SQLite in the data directory."""
    default = settings.DATABASES["default"]
    if default["ENGINE"].endswith("sqlite3"):
        yield ""
        return
    url = urlsplit(os.environ["DATABASE_URL"])
    name = f"oc_up_{uuid4().hex}"
    with psycopg.connect(urlunsplit(url._replace(path="/postgres")), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        yield urlunsplit(url._replace(path=f"/{name}"))
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def transactional_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Rows that other processes see: committed at once, wiped afterwards.

    Takes the place of pytest-django's fixture, which flushes.
    """
    with django_db_blocker.unblock():
        wipe()
        yield
        wipe()


@pytest.fixture
def fleet(transactional_db: None, tmp_path: Path) -> Iterator[Fleet]:
    """Starts workers for one test alone."""
    workers = Fleet(tmp_path)
    try:
        yield workers
    finally:
        workers.close()
        Worker.objects.all().delete()


@pytest.fixture(scope="module")
def standing_fleet(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    """One worker with two slots for all tests of a module: they must leave nothing running."""
    with django_db_blocker.unblock():
        wipe()
        workers = Fleet(tmp_path_factory.mktemp("standing"))
        try:
            workers.start(slots=2)
            yield workers
        finally:
            workers.close()
            Worker.objects.all().delete()


@pytest.fixture
def standing(standing_fleet: Fleet, transactional_db: None) -> Fleet:
    """The module's worker, with a database that holds nothing but its row."""
    return standing_fleet

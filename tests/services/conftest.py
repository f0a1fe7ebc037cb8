"""Tests that need PostgreSQL itself. They commit for real, so each cleans up what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from pytest_django import DjangoDbBlocker

from batches import operations
from batches.models import Batch, Queue, Resource, Start
from batches.submission import Item, Submission
from tests.services.racing import Track

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, rather than skip, what SQLite cannot show: there, nothing of it is missing."""
    if settings.DATABASES["default"]["ENGINE"].endswith("postgresql"):
        return
    left_out = [
        item
        for item in items
        if HERE in item.path.parents and item.get_closest_marker("postgres_only")
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def transactional_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The database without a transaction around the test, for connections to meet in.

    Takes the place of pytest-django's fixture, whose flush would take the queues and groups of
    the migrations away from every test that comes later.
    """
    with django_db_blocker.unblock():
        Queue.objects.get_or_create(pk="default", defaults={"priority": 5})
        yield
        for model in (Start, Batch, Resource):
            model.objects.all().delete()
        User.objects.filter(username="racer").delete()
        Queue.objects.filter(pk="default").update(
            priority=5, paused_at=None, concurrency_limit=None, rate_limit=None
        )


@pytest.fixture
def race(transactional_db: None) -> Iterator[Track]:
    track = Track()
    yield track
    track.clear()


@pytest.fixture
def owner(transactional_db: None) -> User:
    return User.objects.create_superuser("racer")


@pytest.fixture
def submit(owner: User) -> Callable[..., Batch]:
    """A batch of tasks that do nothing; each name may say what it waits for: ``"c after a b"``."""

    def make(*tasks: str, **options: Any) -> Batch:
        items = []
        for task in tasks:
            name, _, needed = task.partition(" after ")
            items.append(Item({}, id=name, depends_on=tuple(needed.split())))
        return operations.submit(owner, Submission(kind="noop", items=items, **options))

    return make

"""The same behaviours on every backend: database workers, Celery over Redis and over RabbitMQ.

Celery is shown on PostgreSQL, where workers on several machines would meet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from kombu import Connection
from pytest_django import DjangoDbBlocker

from batches import dispatch
from batches.backends import brokers
from batches.models import Worker
from tests.brokers import Broker, RabbitMQ, Redis, Sentinel, Sqs
from tests.patience import PATIENCE
from tests.postgres import Postgres
from tests.processes.conftest import seven_queues, transactional_db, wipe
from tests.processes.fleet import Fleet

__all__ = ["transactional_db"]

BACKENDS = ["database", "redis", "rabbitmq"]
SERVERS: dict[str, type[Broker]] = {
    server.name: server for server in (Redis, RabbitMQ, Sentinel, Sqs)
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("backends")
        chosen = only.args if only else BACKENDS
        metafunc.parametrize("backend", chosen, indirect=True, scope="module")


@pytest.fixture(scope="module")
def backend(request: pytest.FixtureRequest) -> str:
    """Its name."""
    if request.param != "database" and settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        pytest.skip("Celery is shown on PostgreSQL")
    name: str = request.param
    return name


def emptied(node: RabbitMQ) -> RabbitMQ:
    """It answers, and has none of our queues, whatever the last module did to it."""
    if node.process is None or node.stopped:
        node.start()
    node.thaw()
    with Connection(node.url) as connection:
        channel = connection.channel()
        for queue in seven_queues.QUEUES:
            channel.queue_delete(queue)
    return node


@pytest.fixture(scope="module")
def broker(
    backend: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker | None]:
    """A server that holds nothing of another module; None for the database backend."""
    if backend == "database":
        yield None
        return
    if backend == RabbitMQ.name:
        yield emptied(request.getfixturevalue("rabbitmq"))
        return
    server = SERVERS[backend](tmp_path_factory.mktemp(backend))
    try:
        yield server
    finally:
        server.kill()


def point_to(url: str, environment: dict[str, Any]) -> None:
    """Let this process speak to a broker, as the settings of a web process would."""
    settings.CELERY_BROKER_URL = url
    master = environment.get("CELERY_REDIS_MASTER", "")
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = brokers.transport_options(url, master)
    from config.celery import app, queues

    app.conf.broker_url = url
    app.conf.task_queues = queues()
    app.__dict__.pop("amqp", None)


def fleet_of(broker: Broker | None, folder: Path) -> Fleet:
    return Fleet(folder, broker.url, **broker.environment) if broker else Fleet(folder)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that takes more than a moment on a busy machine is told in time all the same."""
    monkeypatch.setattr(dispatch, "NUDGE_SECONDS", PATIENCE)


@pytest.fixture(scope="module")
def standing_fleet(
    broker: Broker | None,
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    """One worker with two slots for all behaviours of a backend: they leave nothing running."""
    with django_db_blocker.unblock():
        wipe()
        workers = fleet_of(broker, tmp_path_factory.mktemp("standing"))
        try:
            workers.start(slots=2)
            yield workers
        finally:
            workers.close()
            Worker.objects.all().delete()
            settings.CELERY_BROKER_URL = ""


@pytest.fixture
def standing(standing_fleet: Fleet, transactional_db: None) -> Fleet:
    """The worker, with a database that holds nothing but its row."""
    if standing_fleet.broker_url:
        point_to(standing_fleet.broker_url, standing_fleet.environment)
    return standing_fleet


@pytest.fixture
def fleet(broker: Broker | None, transactional_db: None, tmp_path: Path) -> Iterator[Fleet]:
    """Starts workers for one test alone; the standing one is not to be there."""
    workers = fleet_of(broker, tmp_path)
    if workers.broker_url:
        point_to(workers.broker_url, workers.environment)
    try:
        yield workers
    finally:
        workers.close()
        Worker.objects.all().delete()
        settings.CELERY_BROKER_URL = ""


@pytest.fixture
def restart_database() -> Callable[[], None]:
    """Starts the server again, if it is a private one; else ends every session but ours."""
    if folder := os.environ.get("CHAOS_POSTGRES"):
        return Postgres(Path(folder)).restart

    def cut() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    return cut

"""`manage.py benchmark`, small: its figures, and that nothing of it is left."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import connection

from batches.models import Batch
from tests.brokers import Broker, RabbitMQ, Redis
from tests.processes.fleet import ROOT, database_url

pytestmark = [
    pytest.mark.long,
    pytest.mark.usefixtures("transactional_db"),
    pytest.mark.timeout(300),  # half a minute, on a machine that is not busy
]


def measured(tmp_path: Path, *arguments: str, **env: str) -> dict[str, Any]:
    """What it found; no database and no row of it is left."""
    with subprocess.Popen(
        [sys.executable, "manage.py", "benchmark", *arguments, "--json"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url(), "DATA_DIR": str(tmp_path), **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as ran:
        output, errors = ran.communicate()
    assert ran.returncode == 0, errors
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_database")
            assert not [name for (name,) in cursor if name.startswith(f"scratch_{ran.pid}_")]
    assert not list(tmp_path.glob("scratch-*"))
    assert not Batch.objects.exists()
    figures: dict[str, Any] = json.loads(output)
    return figures


def test_the_benchmark_measures_beside_the_configured_database(tmp_path: Path) -> None:
    small = ["--tasks", "150", "--in-front", "120", "--workers", "1", "--slots", "2"]
    figures = measured(tmp_path, *small, "--rounds", "2")
    plan = {"tasks": 150, "slots": 2, "workers": 1, "in_front": 120, "rounds": 2}
    assert figures["plan"] == plan
    for name in ("submit_rate", "stored_rate", "stored_rate_behind", "pickup_p50", "pickup_p99"):
        assert figures[name] > 0
    assert figures["idle_percent"] >= 0
    assert len(figures["rounds"]) == 2
    policy = "synchronous_commit=" if connection.vendor == "postgresql" else "journal_mode=wal, "
    assert figures["commit_policy"].startswith(policy)


def check(broker: Broker, tmp_path: Path) -> None:
    small = ["--backend", "celery", "--tasks", "100", "--rounds", "2"]
    figures = measured(tmp_path, *small, CELERY_BROKER_URL=broker.url)
    assert figures["broker"] == type(broker).__name__
    assert [sorted(one) for one in figures["rounds"]] == [["ours", "plain"]] * 2
    ratios = [one["ours"] / one["plain"] for one in figures["rounds"]]
    assert figures["ratio"] == pytest.approx(sum(ratios) / 2)
    assert 0 < figures["answer_seconds"] < 60


@pytest.mark.postgres_only
def test_celery_is_measured_beside_plain_celery_on_redis(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Redis(folder)
    try:
        check(broker, tmp_path)
        for number in range(16):
            with redis.Redis(port=broker.port, db=number) as database:
                assert database.dbsize() == 0
    finally:
        broker.kill()


@pytest.mark.sqlite_only
def test_celery_is_measured_beside_plain_celery_on_rabbitmq(
    rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    before = rabbitmq.queues()
    check(rabbitmq, tmp_path)
    assert rabbitmq.queues() == before


@pytest.mark.either
def test_celery_is_not_measured_without_a_broker(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "manage.py", "benchmark", "--backend", "celery"],
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": database_url(),
            "DATA_DIR": str(tmp_path),
            "CELERY_BROKER_URL": "",
        },
        stderr=subprocess.PIPE,
        text=True,
    ) as ran:
        _, errors = ran.communicate()
    assert ran.returncode == 1
    assert "set CELERY_BROKER_URL" in errors

"""`manage.py benchmark`, small: its figures, and that nothing of it is left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from batches.models import Batch
from tests.processes.fleet import ROOT, database_url


@pytest.mark.long
@pytest.mark.usefixtures("transactional_db")
def test_the_benchmark_measures_beside_the_configured_database(tmp_path: Path) -> None:
    small = ["--tasks", "150", "--in-front", "120", "--workers", "1", "--slots", "2"]
    command = [sys.executable, "manage.py", "benchmark", *small, "--json"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url(), "DATA_DIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as ran:
        output, errors = ran.communicate()
    assert ran.returncode == 0, errors
    figures = json.loads(output)
    assert figures["plan"] == {"tasks": 150, "slots": 2, "workers": 1, "in_front": 120}
    for name in ("submit_rate", "stored_rate", "stored_rate_behind", "pickup_p50", "pickup_p99"):
        assert figures[name] > 0
    assert figures["idle_percent"] >= 0
    if connection.vendor == "postgresql":
        assert "synchronous_commit=" in figures["commit_policy"]
        with connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_database")
            assert not [name for (name,) in cursor if name.startswith(f"scratch_{ran.pid}_")]
    else:
        assert figures["commit_policy"].startswith("journal_mode=wal, synchronous=")
    assert not list(tmp_path.glob("scratch-*"))
    assert not Batch.objects.exists()

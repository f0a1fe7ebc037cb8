"""`manage.py doctor`: it finds what is wrong and says what to do."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db.backends.utils import CursorWrapper
from django.db.utils import OperationalError
from django.utils import timezone

from batches import operations
from batches.management import diagnosis
from batches.models import Queue, Resource, Worker
from batches.places import adopt
from tests.mcp_servers import NpmServers, everything, npm_servers

__all__ = ["npm_servers"]

pytestmark = pytest.mark.django_db


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[tuple[str, str], str]]:
    """Its exit code, and the text of each subject and mark."""
    code = 0
    try:
        call_command("doctor", "--json")
    except SystemExit as end:
        code = int(str(end.code))
    findings: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert all(finding["remedy"] for finding in findings if finding["mark"] == "failed")
    return code, {(finding["subject"], finding["mark"]): finding["text"] for finding in findings}


@pytest.fixture
def worker(db: None) -> Worker:
    return Worker.objects.create(
        name="w1", backend="database", host="here", pid=1, slots=4, running=1, sandbox="bubblewrap"
    )


def test_a_healthy_console_is_told_so(capsys, admin, worker, red):
    adopt(red)
    red.save()
    type(admin).objects.filter(pk=admin.pk).update(is_superuser=True)
    code, found = doctor(capsys)
    assert code == 0
    assert "1 of 4 slots are busy" in found["workers", "ok"]
    assert found["workspaces", "ok"] == "All 1 can be opened here."
    assert "up to date" in found["database", "ok"]
    assert ("users", "warning") not in found
    assert not [mark for _, mark in found if mark == "failed"]


def test_work_without_a_worker_fails(capsys, operator, make_batch):
    make_batch(operator, 1)
    code, found = doctor(capsys)
    assert code == 1
    assert found["workers", "failed"] == "None is running: tasks wait."


def test_a_queue_that_no_worker_takes_from_is_named(capsys, operator, make_batch, worker):
    Worker.objects.update(queues=["tests"])
    assert ("queues", "failed") not in doctor(capsys)[1]
    make_batch(operator, 1)
    code, found = doctor(capsys)
    assert code == 1
    assert found["queues", "failed"] == "Tasks wait that no worker takes: default."


def test_what_is_worth_a_warning_is_told_and_is_no_failure(capsys, worker, red):
    Worker.objects.update(sandbox="rlimits")
    Queue.objects.filter(pk="tests").update(paused_at=timezone.now())
    Resource.objects.create(
        name="model:x", kind="noop", away_since=timezone.now(), reason="ollama pull x"
    )
    code, found = doctor(capsys)
    assert code == 0
    assert found["workers", "warning"] == "Not isolated: w1."
    assert found["queues", "warning"] == "Paused: tests."
    assert found["workspaces", "warning"] == "Not to be opened on this machine: red."
    assert "Away since" in found["model:x", "warning"]


def test_a_full_disk_is_warned_of_before_it_stops_runs(capsys, worker, monkeypatch):
    monkeypatch.setattr(diagnosis, "LEAST_FREE", 1 << 60)
    assert "GiB free" in doctor(capsys)[1]["data directory", "warning"]


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"


@pytest.mark.either
def test_mcp_servers_are_asked_and_one_that_is_away_says_why(
    capsys, worker, npm_servers: NpmServers
):
    away = "http://127.0.0.1:9/mcp"
    with everything(npm_servers) as server:
        operations.add_mcp_server("every", url=server.url)
        operations.add_mcp_server("away", url=away)
        operations.add_mcp_server("off", url=away, enabled=False)
        operations.add_mcp_server("broken", command=["/usr/bin/false"])
        operations.add_mcp_server("locked", url=server.url, secrets={"K": "env:NOT_HERE"})
        code, found = doctor(capsys)
    assert code == 1
    assert found["MCP server every", "ok"].startswith("It answers with 13 tools, after ")
    for name, words in {
        "away": "All connection attempts failed",
        "broken": "Connection closed",
        "locked": "the secret K cannot be read: the worker's environment has no NOT_HERE",
    }.items():
        assert found[f"MCP server {name}", "failed"].startswith(f"It cannot be reached: {words}")
    assert not [subject for subject, _ in found if "off" in subject]


@pytest.mark.either
def test_servers_that_say_nothing_keep_nobody_waiting(
    capsys, worker, monkeypatch, silent: str, tmp_path: Path
):
    monkeypatch.setattr(diagnosis, "SERVERS_WITHIN", 2.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for number in range(5):
        operations.add_mcp_server(f"silent-{number}", url=silent)
    code, found = doctor(capsys)
    assert code == 1
    # The first four side by side, each for its half of the time; for the fifth none was left.
    for number in range(4):
        text = found[f"MCP server silent-{number}", "failed"]
        assert text == "It cannot be reached: no answer within 1 s"
    assert found["MCP servers", "warning"] == "No time was left to ask: silent-4."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.sqlite_only
def test_a_database_that_is_away_is_a_finding_and_no_traceback(capsys, monkeypatch):
    def refuse(*_: Any) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(CursorWrapper, "execute", refuse)
    code, found = doctor(capsys)
    assert code == 1
    assert "connection refused" in found["database", "failed"]
    assert ("workers", "failed") not in found


def test_a_person_is_told_in_lines(capsys, worker):
    call_command("doctor", "--no-color")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok") and "workers" in line for line in lines)

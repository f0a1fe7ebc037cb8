"""`manage.py up`, for real: real ports, real signals, real children.

What does not touch the database is run on SQLite only, though it would pass on both.
"""

import contextlib
import re
import shlex
import signal
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.patience import PATIENCE
from tests.processes.installation import (
    Installation,
    descendants,
    ended_afterwards,
    gone,
    until,
)


@pytest.fixture
def installation(tmp_path: Path, database_url: str) -> Iterator[Installation]:
    with ended_afterwards(Installation(tmp_path, database_url)) as made:
        yield made


@pytest.mark.long
def test_the_first_start_gives_credentials_that_outlive_a_kill(installation):
    installation.start("--demo")
    first = installation.said
    (curl,) = re.findall(r"^ +(curl .*)$", first, re.MULTILINE)
    header, url = shlex.split(curl)[2:]
    token = header.split()[-1]
    assert url == f"http://127.0.0.1:{installation.port}/batch/stats"
    assert "totals" in installation.get(token, "/batch/stats")
    installation.until_said("Some of these fail on purpose.")
    assert "No agent is shown: the model qwen2.5-coder:7b cannot be used:" in installation.said
    demo = installation.get(token, "/batch?label=demo")["results"]
    assert {batch["kind"]: batch["total"] for batch in demo} == {
        "validation": 5,
        "test": 3,
        "mcp": 5,
    }
    until(lambda: installation.counted("gunicorn", " worker", "agents.slot") == [3, 1, 2])
    children = descendants(installation.up.pid)

    installation.up.kill()
    installation.up.wait(PATIENCE)
    until(lambda: all(gone(pid) for pid in children))

    installation.start()
    assert "password  " not in installation.said
    assert "manage.py token admin" in installation.said
    assert "totals" in installation.get(token, "/batch/stats")
    assert installation.stop() == 0


@pytest.mark.long
@pytest.mark.sqlite_only
def test_one_request_drains_and_a_second_hands_back(installation):
    installation.start()
    token = installation.token
    short, long = (
        installation.ask("POST", token, "/batch/sleep", {"items": [{"seconds": seconds}]})["id"]
        for seconds in (3, 600)
    )
    until(lambda: installation.states(token, long) == ["running"])
    children = descendants(installation.up.pid)

    installation.up.send_signal(signal.SIGINT)
    watched = installation.command("watch", short)
    assert (watched.returncode, installation.up.poll()) == (0, None)
    assert installation.stop() == 0

    assert "Once more hands them back" in installation.said
    assert "Stopped." in installation.said
    assert all(gone(pid) for pid in children)
    database = installation.folder / "data" / "ollama-coder.sqlite3"
    with contextlib.closing(sqlite3.connect(database)) as rows:
        tasks = rows.execute("SELECT state, failures FROM batches_task ORDER BY created_at")
        assert tasks.fetchall() == [("succeeded", 0), ("queued", 0)]


@pytest.mark.sqlite_only
def test_a_port_in_use_is_said_before_anything_starts(installation):
    with socket.create_server(("127.0.0.1", installation.port)):
        refused = installation.command("up", "--port", str(installation.port))

    assert refused.returncode == 1
    assert "another program uses it. --port chooses another one" in refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize(
    "arguments", [["--port", "0"], ["--port", "http"], ["--slots", "0"], ["--slots", "-1"]]
)
def test_arguments_that_make_no_sense_are_refused(arguments):
    with pytest.raises(CommandError, match="is not a whole number from 1 to"):
        call_command("up", *arguments)


@pytest.mark.sqlite_only
def test_the_data_directory_may_be_named_on_any_command_line(installation):
    installation.environment["DJANGO_SETTINGS_MODULE"] = "config.settings"
    elsewhere = installation.folder / "else where"

    checked = installation.command("check", "--data-dir", str(elsewhere))

    assert checked.returncode == 0
    assert (elsewhere / "secret_key").exists()
    assert not (installation.folder / "data").exists()


@pytest.mark.sqlite_only
def test_wrong_settings_end_in_one_sentence(installation):
    installation.environment["LEASE_SECONDS"] = "soon"

    refused = installation.command("up")

    assert refused.returncode == 1
    assert refused.stderr == "The settings are wrong. LEASE_SECONDS='soon' is not a whole number.\n"

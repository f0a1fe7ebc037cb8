"""Log lines as JSON: whoever writes them, each is one object that a program can read."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from batches import identity
from batches.management.commands.up import Command
from config.logs import JsonFormatter

ROOT = Path(__file__).parents[2]
TASK = UUID("0197a7b2-7c64-7000-8000-000000000001")

EVERYBODY = """
import logging
from gunicorn.config import Config
from gunicorn.glogging import Logger

web = Logger(Config())
import django
django.setup()
web.error("Worker failed to boot.")
logging.getLogger("django.request").error("Internal Server Error: %s", "/batch")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("batches.upkeep").exception("two\\nlines")
"""


def line_of(**more: Any) -> dict[str, Any]:
    record = logging.makeLogRecord({"name": "batches.x", "levelname": "INFO", "msg": "m", **more})
    text = JsonFormatter().format(record)
    assert text.splitlines() == [text]
    line = json.loads(text)
    assert isinstance(line, dict)
    return line


def logged_by_everybody(tmp_path: Path, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", EVERYBODY],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "DATA_DIR": str(tmp_path),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            **environment,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.splitlines()


def test_a_line_says_when_where_and_what():
    line = line_of(msg="%d of %s", args=(3, "é\u2028\n\udcff"), process=7)

    at = datetime.fromisoformat(line.pop("time"))
    assert at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)
    assert line == {
        "level": "INFO", "logger": "batches.x", "message": "3 of é\u2028\n\udcff", "process": 7,
    }  # fmt: skip


def test_a_line_about_an_attempt_has_its_ids(monkeypatch):
    monkeypatch.setattr(identity, "worker", "w1")

    line = line_of(batch=TASK, task=TASK, attempt=2)

    assert (line["worker"], line["batch"], line["task"]) == ("w1", str(TASK), str(TASK))
    assert line["attempt"] == 2


def test_what_else_a_record_carries_stays_inside():
    assert "hunter2" not in json.dumps(line_of(request="Token hunter2", args=(), secret="hunter2"))


@pytest.mark.parametrize("debug", ["true", "false"])
def test_gunicorn_and_django_and_we_write_the_same(tmp_path, debug):
    written = logged_by_everybody(tmp_path, LOG_FORMAT="json", DEBUG=debug)

    lines = [json.loads(line) for line in written]
    assert [(line["logger"], line["message"]) for line in lines] == [
        ("gunicorn.error", "Worker failed to boot."),
        ("django.request", "Internal Server Error: /batch"),
        ("batches.upkeep", "two\nlines"),
    ]
    [failed] = [line for line in lines if "exception" in line]
    assert failed["exception"].startswith("Traceback")
    assert failed["exception"].endswith("ZeroDivisionError: division by zero")


def test_text_is_what_is_written_without_the_setting(tmp_path):
    lines = logged_by_everybody(tmp_path)

    assert lines[0].endswith("Worker failed to boot.")
    assert " ERROR gunicorn.error[" in lines[0]
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_up_warns_in_the_form_that_was_asked_for(settings, caplog, capsys):
    settings.LOG_FORMAT = "JSON"
    Command().shout("100 % of it")
    assert caplog.messages == ["100 % of it"]
    assert capsys.readouterr().err == ""

    settings.LOG_FORMAT = "TEXT"
    Command().shout("100 % of it")
    assert len(caplog.messages) == 1
    assert "** 100 % of it" in capsys.readouterr().err

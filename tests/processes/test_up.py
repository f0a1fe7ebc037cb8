"""`manage.py up`, for real: real ports, real signals, real children.

What does not touch the database is run on SQLite only, though it would pass on both.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

ROOT = Path(__file__).parents[2]
PATIENCE = 45.0
Seen = TypeVar("Seen")

of_the_running = pytest.mark.xdist_group("running")
"""In one process, so that one installation serves them all."""

pytestmark = pytest.mark.timeout(180)  # seconds, not minutes, on a machine that is not busy


def until(look: Callable[[], Seen]) -> Seen:
    """The first true answer; a failure when there is none in time."""
    deadline = time.monotonic() + PATIENCE
    while not (seen := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return seen


def descendants(pid: int) -> dict[int, str]:
    """Every process below ``pid``, with its command line."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found, todo = {}, [pid]
    while todo:
        for child in parents.get(todo.pop(), []):
            todo.append(child)
            try:
                words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            found[child] = " ".join(words)
    return found


def gone(pid: int) -> bool:
    """Has it ended? A zombie that nobody reaped has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Installation:
    """One data directory, its database, and the `up` that runs on it."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.environment = {
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATA_DIR": str(folder / "data"),
            "DATABASE_URL": database_url,
        }
        self.starts = 0
        self.up: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def start(self) -> None:
        self.starts += 1
        with self.log.open("wb") as log:
            self.up = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--port", str(self.port)],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.until_said("The console is ready")

    @property
    def log(self) -> Path:
        return self.folder / f"up-{self.starts}.log"

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def until_said(self, words: str) -> None:
        def look() -> bool:
            assert self.up.poll() is None or words in self.said, self.said
            return words in self.said

        until(look)

    def process(self, words: str) -> int:
        """The first process of a program of ours."""
        return min(pid for pid, line in descendants(self.up.pid).items() if words in line)

    def stop(self) -> int:
        self.up.send_signal(signal.SIGTERM)
        return self.up.wait(PATIENCE)

    def submit(self, body: dict[str, object], *options: str) -> subprocess.CompletedProcess[str]:
        file = self.folder / "batch.json"
        file.write_text(json.dumps(body), encoding="utf-8")
        return self.command("submit", str(file), *options)

    def get(self, token: str, path: str) -> dict[str, object]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        request.add_header("Authorization", f"Token {token}")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    @property
    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            self.get("", "/health/live")
            return True
        return False

    def token(self) -> str:
        return self.command("token", "admin").stdout.split()[-1]

    def states(self, token: str, batch: str) -> list[str]:
        return [task["state"] for task in self.get(token, f"/batch/{batch}/tasks")["results"]]


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


@contextlib.contextmanager
def ended_afterwards(installation: Installation) -> Iterator[Installation]:
    yield installation
    if installation.up and installation.up.poll() is None:
        left = descendants(installation.up.pid)
        for pid in (installation.up.pid, *left):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        installation.up.wait(PATIENCE)
        until(lambda: all(gone(pid) for pid in left))


@pytest.fixture
def installation(tmp_path: Path, database_url: str) -> Iterator[Installation]:
    with ended_afterwards(Installation(tmp_path, database_url)) as made:
        yield made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One that is up, on SQLite and without a sandbox, for tests that leave it so."""
    with ended_afterwards(Installation(tmp_path_factory.mktemp("running"), "")) as made:
        made.environment["PATH"] = "/nowhere"
        made.start()
        yield made


@pytest.mark.long
def test_the_first_start_gives_credentials_that_outlive_a_kill(installation):
    installation.start()
    first = installation.said
    (curl,) = re.findall(r"^ +(curl .*)$", first, re.MULTILINE)
    header, url = shlex.split(curl)[2:]
    token = header.split()[-1]
    assert url == f"http://127.0.0.1:{installation.port}/batch/stats"
    assert "totals" in installation.get(token, "/batch/stats")
    # The web server and its two processes, the worker and its two slots.
    until(lambda: len(descendants(installation.up.pid)) == 6)
    children = descendants(installation.up.pid)

    installation.up.kill()
    installation.up.wait(PATIENCE)
    until(lambda: all(gone(pid) for pid in children))

    installation.start()
    assert "password  " not in installation.said
    assert "manage.py token admin" in installation.said
    assert "totals" in installation.get(token, "/batch/stats")
    assert installation.stop() == 0


@pytest.mark.sqlite_only
@of_the_running
def test_children_that_are_killed_are_started_again(running):
    worker, web = running.process("manage.py worker"), running.process("gunicorn")

    os.kill(worker, signal.SIGKILL)
    running.until_said("The worker process was killed by SIGKILL. Starting it again")
    os.kill(web, signal.SIGKILL)
    running.until_said("The web process was killed by SIGKILL. Starting it again")

    done = running.submit({"kind": "noop", "items": [{}] * 20}, "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "20/20 completed"
    until(lambda: running.answers)
    batch = running.get(running.token(), f"/batch/{done.stdout.strip()}")
    assert batch["status"] == "completed"


@pytest.mark.long
@pytest.mark.sqlite_only
def test_one_request_drains_and_a_second_hands_back(installation):
    installation.start()
    token = installation.token()
    short, long = (
        installation.submit({"kind": "sleep", "items": [{"seconds": seconds}]}).stdout.strip()
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
@of_the_running
def test_submit_waits_and_says_what_failed(running):
    done = running.submit(
        {"kind": "misbehave", "items": [{"id": "bad", "how": "reject"}, {"how": "artefact"}]},
        "--wait",
    )

    assert done.returncode == 1
    assert re.fullmatch(r"[0-9a-f-]{36}\n", done.stdout)
    assert "bad: rejected: no" in done.stderr


@pytest.mark.sqlite_only
@of_the_running
def test_a_machine_without_a_sandbox_is_said_loudly_or_refused(running, installation):
    assert "** Commands of tasks are NOT ISOLATED" in running.said
    assert "apt-get install bubblewrap" in running.said

    installation.environment |= {"PATH": "/nowhere", "REQUIRE_SANDBOX": "true"}
    refused = installation.command("up", "--port", str(installation.port))
    assert refused.returncode == 1
    assert "REQUIRE_SANDBOX is true, but bubblewrap is not installed" in refused.stderr


@pytest.mark.sqlite_only
@of_the_running
def test_a_second_up_on_the_same_data_is_refused(running):
    second = running.command("up", "--port", "1")

    assert second.returncode == 1
    assert f"Another `up` (process {running.up.pid})" in second.stderr


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

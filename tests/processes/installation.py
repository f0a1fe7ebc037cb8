"""An installation of its own for a test, and the `up` that runs on it."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
Seen = TypeVar("Seen")


def until(look: Callable[[], Seen]) -> Seen:
    """The first true answer; a failure when there is none in time."""
    deadline = time.monotonic() + PATIENCE
    while not (seen := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
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
            "OLLAMA_BASE_URL": "http://127.0.0.1:9",
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

    def start(self, *arguments: str) -> None:
        self.starts += 1
        with self.log.open("wb") as log:
            self.up = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--port", str(self.port), *arguments],
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

    def counted(self, *words: str) -> list[int]:
        """How many processes of each program there are. Slots may have some of their own."""
        lines = descendants(self.up.pid).values()
        return [sum(each in line for line in lines) for each in words]

    def stop(self) -> int:
        self.up.send_signal(signal.SIGTERM)
        return self.up.wait(PATIENCE)

    def submit(self, body: dict[str, object], *options: str) -> subprocess.CompletedProcess[str]:
        file = self.folder / "batch.json"
        file.write_text(json.dumps(body), encoding="utf-8")
        return self.command("submit", str(file), *options)

    def get(self, token: str, path: str) -> dict[str, object]:
        return self.ask("GET", token, path)

    def ask(
        self, method: str, token: str, path: str, body: dict[str, object] | None = None
    ) -> dict[str, object]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        request.add_header("Authorization", f"Token {token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    @property
    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            self.get("", "/health/live")
            return True
        return False

    @property
    def token(self) -> str:
        """The administrator's, of the first start, which alone shows one."""
        said = (self.folder / "up-1.log").read_text(encoding="utf-8")
        [token] = re.findall(r"API token +(\w+)", said)
        return token

    def states(self, token: str, batch: str) -> list[str]:
        return [task["state"] for task in self.get(token, f"/batch/{batch}/tasks")["results"]]


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

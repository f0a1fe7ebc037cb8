"""The services of deploy/compose.yaml, started for real on what the image would have."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.patience import PATIENCE
from tests.processes.installation import descendants, gone, until
from tests.processes.shipped import FILLED, Container, Image

pytestmark = [pytest.mark.long, pytest.mark.either]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class Containers:
    """The services of one test, and where they are; whatever is left of them is killed."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("web", "flower", "redis")}
        self.image = Image(
            folder,
            {
                "0.0.0.0:8000": f"127.0.0.1:{self.ports['web']}",
                "'127.0.0.1', 8000": f"'127.0.0.1', {self.ports['web']}",
                "--address=0.0.0.0": "--address=127.0.0.1",
                "5555": str(self.ports["flower"]),
                "@redis:6379": f"@127.0.0.1:{self.ports['redis']}",
            },
        )
        self.database = {"DATABASE_URL": database_url}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def of(self, name: str, **environment: str) -> Container:
        return self.image.container(name, **self.database, **environment)

    def start(self, name: str, container: Container | None = None) -> None:
        self.running[name] = (container or self.of(name)).start(self.log(name))

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def said(self, name: str) -> str:
        return self.log(name).read_text(encoding="utf-8", errors="replace")

    def until_healthy(self, name: str, container: Container | None = None) -> None:
        container = container or self.of(name)

        def look() -> bool:
            assert self.running[name].poll() is None, self.said(name)
            return container.healthy

        until(look)

    def get(self, name: str, path: str, **headers: str) -> int:
        address = f"http://127.0.0.1:{self.ports[name]}{path}"
        request = urllib.request.Request(address, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status
        except urllib.error.HTTPError as refused:
            return refused.code

    def stop(self, *names: str) -> None:
        """SIGTERM ends each of them without an error, and what it started."""
        left = [pid for name in names for pid in descendants(self.running[name].pid)]
        for name in names:
            self.running[name].send_signal(signal.SIGTERM)
        for name in names:
            assert self.running[name].wait(PATIENCE) == 0, self.said(name)
        until(lambda: all(gone(pid) for pid in left))

    def kill(self) -> None:
        for process in self.running.values():
            for pid in (process.pid, *descendants(process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def containers(tmp_path: Path, database_url: str) -> Iterator[Containers]:
    made = Containers(tmp_path, database_url)
    try:
        yield made
    finally:
        made.kill()


def start_redis(containers: Containers) -> None:
    port = str(containers.ports["redis"])
    redis = containers.of("redis")
    elsewhere = ["--port", port, "--bind", "127.0.0.1", "--dir", str(containers.folder)]
    asks = [*redis.health[:1], "-p", port, *redis.health[1:]]
    redis = replace(redis, command=[*redis.command, *elsewhere], health=asks)
    containers.start("redis", redis)
    containers.until_healthy("redis", redis)
    stranger = replace(redis, environment={"PATH": os.environ["PATH"]})
    assert not stranger.healthy, "it asks for a password"


def prepare(containers: Containers) -> None:
    containers.start("migrate")
    assert containers.running["migrate"].wait(PATIENCE) == 0, containers.said("migrate")
    assert "  password   " in containers.said("migrate")


def command(containers: Containers, *arguments: str) -> None:
    """A command of the console, as `docker compose exec web` would run it."""
    done = containers.of("web").run("python", "manage.py", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def carry_out_a_batch(containers: Containers) -> None:
    workspace, body = containers.folder / "workspace", containers.folder / "batch.json"
    workspace.mkdir()
    (workspace / "right.py").write_text("RIGHT = 1\n", encoding="utf-8")
    targets = [{"path": "right.py"}]
    batch = {"kind": "validation", "workspace": "here", "targets": targets, "backend": "celery"}
    body.write_text(json.dumps(batch), encoding="utf-8")
    command(containers, "workspace", "add", "here", str(workspace))
    command(containers, "submit", str(body), "--wait")
    assert "Task process_validation" in containers.said("worker")


def test_every_service_comes_up_works_and_ends(containers):
    start_redis(containers)
    prepare(containers)
    host = "console.example.org"
    web = containers.of("web", ALLOWED_HOSTS=host)
    containers.start("web", web)
    for name in ("worker", "beat", "flower"):
        containers.start(name)

    containers.until_healthy("web", web)
    for path in ("/health/live", "/admin/login/", "/static/console/console.css"):
        assert containers.get("web", path, Host=host) == 200, path

    until(lambda: "beat: Starting..." in containers.said("beat"))
    containers.until_healthy("flower")
    login = base64.b64encode(FILLED["FLOWER_BASIC_AUTH"].encode()).decode()
    assert containers.get("flower", "/") == 401
    assert containers.get("flower", "/", Authorization=f"Basic {login}") == 200

    until(lambda: f"worker@{socket.gethostname()} ready" in containers.said("worker"))
    containers.until_healthy("worker")
    carry_out_a_batch(containers)

    containers.stop("web", "worker", "beat", "flower")
    assert not web.healthy
    for name in ("migrate", "web", "worker", "beat", "flower"):
        for secret in FILLED.values():
            assert secret.rpartition(":")[2] not in containers.said(name), name

    containers.stop("redis")
    worker = containers.of("worker")
    asked = worker.run(*worker.command, "--check")
    assert asked.returncode == 69
    assert "cannot be used: Error 111" in asked.stderr
    assert asked.stderr.endswith("refused. Start it, or correct CELERY_BROKER_URL.\n")
    assert FILLED["REDIS_PASSWORD"] not in asked.stderr

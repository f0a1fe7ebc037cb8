"""A private Flower on a free port, and what its API tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen
from uuid import UUID

from tests.brokers import free_port
from tests.processes.fleet import ROOT, database_url, until


class Flower:
    """``celery flower``, as a person would start it. It knows what it hears while it is there."""

    def __init__(self, folder: Path, broker_url: str) -> None:
        self.port = free_port()
        self._log = folder / "flower.log"
        options = [f"--port={self.port}", "--address=127.0.0.1"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "config", "flower", *options],
                cwd=ROOT,
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": "tests.settings",
                    "DATABASE_URL": database_url(),
                    "DATA_DIR": str(folder),
                    "CELERY_BROKER_URL": broker_url,
                    "FLOWER_UNAUTHENTICATED_API": "true",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_it_hears_a_worker(self) -> None:
        def heard() -> bool:
            assert self.process.poll() is None, f"Flower ended:\n{self._log.read_text()}"
            try:
                return any((self._ask("/api/workers?status=1") or {}).values())
            except URLError:
                return False

        until(heard, what="Flower hears a worker")

    def task(self, task: UUID) -> dict[str, Any] | None:
        """What it tells of a task; None if it never heard of it."""
        return self._ask(f"/api/task/info/{task}")

    def state(self, task: UUID) -> str | None:
        told = self.task(task)
        return None if told is None else str(told["state"])

    def revoke(self, task: UUID, *, terminate: bool = False) -> None:
        """As its button does."""
        query = "?terminate=true" if terminate else ""
        self._ask(f"/api/task/revoke/{task}{query}", data=b"")

    def _ask(self, path: str, data: bytes | None = None) -> dict[str, Any] | None:
        request = Request(f"http://127.0.0.1:{self.port}{path}", data)
        try:
            with urlopen(request, timeout=10) as answer:
                told: dict[str, Any] = json.load(answer)
                return told
        except HTTPError as error:
            if error.code == 404:
                return None
            raise

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

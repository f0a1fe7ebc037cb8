"""An empty installation beside the configured one, for commands that must not touch real rows."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.db import connection

OTHERS = {"DATABASE_URL_FILE", "CELERY_BROKER_URL", "CELERY_BROKER_URL_FILE"}
"""Variables that say where the real one is."""


@contextlib.contextmanager
def scratch_installation(settings_module: str, **more: str) -> Iterator[dict[str, str]]:
    """The environment of processes that are to use it; it is deleted after the block.

    ``more`` is added to it. There is no broker, unless that says where.

    On SQLite a file in the data directory, so that it lies on the same disk; on PostgreSQL a
    database of its own on the same server, which asks for the right to create one.
    """
    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="scratch-", dir=settings.DATA_DIR) as folder,
        _database(Path(folder)) as url,
    ):
        kept = {name: value for name, value in os.environ.items() if name not in OTHERS}
        yield kept | {
            "DJANGO_SETTINGS_MODULE": settings_module,
            "DATA_DIR": folder,
            "DATABASE_URL": url,
            **more,
        }


@contextlib.contextmanager
def _database(folder: Path) -> Iterator[str]:
    if connection.vendor != "postgresql":
        yield f"sqlite:///{quote(str(folder))}/scratch.sqlite3"
        return
    name = f"scratch_{os.getpid()}_{secrets.token_hex(4)}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        yield urlsplit(settings.DATABASE_URL)._replace(path=f"/{name}").geturl()
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")

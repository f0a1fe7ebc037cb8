"""What of an installation nobody else on the machine may read: its key and its database."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def kept_key(file: Path) -> str:
    """The key in ``file``, which is made with mode 0600 when it is missing.

    Processes that start together agree on one whole key: it is written aside and then linked.
    """
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=file.parent, encoding="utf-8") as fresh:
                fresh.write(secrets.token_urlsafe(64))
                fresh.flush()
                with contextlib.suppress(FileExistsError):
                    file.hardlink_to(fresh.name)
        key = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ImproperlyConfigured(
            f"The secret key cannot be kept in {file}: {error.strerror}. Make DATA_DIR a folder "
            "that this user may write to, or set SECRET_KEY."
        ) from error
    if not key:
        raise ImproperlyConfigured(f"{file} is empty: remove it, or set SECRET_KEY.")
    return key


def make_private(database: Path) -> None:
    """Keep an SQLite file from other users: it holds sessions, from which one becomes an admin.

    SQLite gives the files it makes beside it the same mode. Someone else's file is left as it is.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):
        database.touch(mode=0o600)
        for suffix in ("", "-wal", "-shm"):
            file = database.with_name(database.name + suffix)
            if file.exists():
                file.chmod(0o600)

"""What rows only refer to: secrets that workers find where they run, and addresses of servers."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings

OURS = {"SECRET_KEY", "DATABASE_URL"}
"""Secrets of the console itself, which nothing else gets."""
LARGEST_SECRET = 64 * 1024


def check_address(url: str, example: str) -> None:
    """Is it an address that is asked over HTTP, like the example?

    Raises:
        ValueError: no, or it holds a password; the text says what would be right.
    """
    wrong = ValueError(f"Must be an address such as {example}.")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise wrong from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise wrong
    if parts.username is not None:
        raise ValueError("Must hold no user and password: they would be stored.")


def check_reference(reference: str) -> None:
    """Is it ``env:NAME`` or ``file:/PATH``, and none of the console's own secrets?

    Raises:
        ValueError: it is not.
    """
    where, _, what = reference.partition(":")
    if where == "env" and what in OURS:
        raise ValueError(f"{reference} is a secret of the console, which no server gets.")
    if where == "file" and is_ours(what):
        raise ValueError(f"{reference} is the console's own, which no server gets.")
    if not ((where == "env" and what) or (where == "file" and what.startswith("/"))):
        raise ValueError(f"{reference!r} is neither env:NAME nor file:/PATH.")


def is_ours(path: str) -> bool:
    """Does it lead into the data directory, whatever links and ``..`` are on the way?

    Raises:
        ValueError: it cannot be followed.
    """
    return followed(path).is_relative_to(followed(settings.DATA_DIR))


def followed(path: str | Path) -> Path:
    """Where a path really leads.

    Raises:
        ValueError: it cannot be followed.
    """
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"Cannot be followed: {error}.") from None


def resolved(reference: str) -> str:
    """The secret itself, as it is found on this machine now.

    Raises:
        LookupError: it is not there, or is none; the text says why.
    """
    where, _, what = reference.partition(":")
    if where == "env":
        if what not in os.environ:
            raise LookupError(f"the worker's environment has no {what}")
        return os.environ[what]
    try:
        # Once more: a link may lead elsewhere by now.
        if is_ours(what):
            raise LookupError(f"{what} is the console's own")
        with Path(what).open(encoding="utf-8") as file:
            text = file.read(LARGEST_SECRET + 1)
    except (OSError, ValueError) as error:
        raise LookupError(f"{what}: {getattr(error, 'strerror', None) or error}") from error
    if len(text) > LARGEST_SECRET:
        raise LookupError(f"{what} has more than {LARGEST_SECRET:,} characters")
    secret = text.rstrip("\r\n")
    if "\n" in secret or "\r" in secret or "\0" in secret:
        raise LookupError(f"{what} has more than one line")
    return secret

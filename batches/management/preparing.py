"""What a start does before anything runs, told line by line."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.conf import settings
from django.db import connection

from batches.management import installation
from batches.management.base import typed

Say = Callable[[str], None]
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Wildcard addresses, and where this machine reaches them."""


def prepare(say: Say, url: str) -> None:
    """Tables, static files, first user; one line for each. ``url`` is for the line to try."""
    say(f"Data in {settings.DATA_DIR}")
    say(f"Preparing the database ({connection.display_name}) …")
    started = time.monotonic()
    if applied := installation.migrate():
        say(f"{applied} migrations applied in {time.monotonic() - started:.1f} s")
    installation.collect_static()
    if credentials := installation.first_user():
        welcome(say, credentials, url)
    else:
        say(f"Users and tokens are as they were. A new API token: {typed('token admin')}")


def welcome(say: Say, credentials: installation.Credentials, url: str) -> None:
    say(
        "\nThis is the first start. What follows is shown once:\n\n"
        f"  user       {credentials.username}\n"
        f"  password   {credentials.password}\n"
        f"  API token  {credentials.token}\n\n"
        "Try it, once everything has started:\n\n"
        f"  curl -H 'Authorization: Token {credentials.token}' {url}/batch/stats\n"
    )


def address(host: str, port: int) -> str:
    """Where a person reaches the console."""
    if settings.HTTPS:
        return f"https://{settings.ALLOWED_HOSTS[0]}"
    host = ANY.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

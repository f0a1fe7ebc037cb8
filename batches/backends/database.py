"""The database backend: workers look for rows themselves and are only woken.

PostgreSQL workers listen on a channel. SQLite workers watch the file's data version, which every
commit changes, so there is nothing to send. Both also look once a second.
"""

from __future__ import annotations

from django.db import connection

CHANNEL = "ollama_coder_wake"


def wake() -> None:
    """Tell workers that there may be something to claim, once the transaction commits.

    A hint: it may be lost or doubled.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")

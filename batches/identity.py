"""Which worker this process is: every line it logs says so, from whichever thread."""

import re
import uuid

worker = ""
"""The name in the Worker table; empty in a process that is none."""


def named(where: str, pid: int) -> str:
    """A name that no other worker ever has. It is one of a folder as well."""
    return f"{re.sub(r'[^A-Za-z0-9@._-]', '_', where)[:100]}-{pid}-{uuid.uuid4().hex[:6]}"


def celery_node(name: str) -> str:
    """What Celery calls the worker of that name; empty for one of the database."""
    node = name.rsplit("-", 2)[0]
    return node if "@" in node else ""

"""A process of the pool that is forked while threads of the worker use SQLite."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.sqlite_only

FORKS_AMID_A_TRANSACTION = """
import os, threading, time
import django
django.setup()
from django.db import connection, transaction
from batches.consumers.forking import mind_forks, using_database
from batches.consumers.wakeup import Wakeup

def execute(statement):
    with connection.cursor() as cursor:
        return cursor.execute(statement).fetchall()

execute("CREATE TABLE written (by text)")
mind_forks()
amid, again = threading.Event(), threading.Event()

def thread():
    with Wakeup() as wakeup:
        wakeup.rang()
        for event in (amid, again):
            with using_database(), transaction.atomic():
                execute("INSERT INTO written VALUES ('thread')")
                event.set()
                time.sleep(0.3)
            wakeup.rang()

writer = threading.Thread(target=thread)
writer.start()
amid.wait()
child = os.fork()
if child == 0:
    execute("INSERT INTO written VALUES ('child')")
    os._exit(0)
_, status = os.waitpid(child, 0)
writer.join()
rows = execute("SELECT by FROM written ORDER BY by")
print(os.waitstatus_to_exitcode(status), again.is_set(), rows)
"""


def test_it_inherits_no_lock_that_a_thread_of_its_parent_held(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS_AMID_A_TRANSACTION],
        env={
            **os.environ,
            "DATABASE_URL": "",
            "DATA_DIR": str(tmp_path),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "SQLITE_BUSY_TIMEOUT": "5",
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "0 True [('child',), ('thread',), ('thread',)]\n", done.stderr

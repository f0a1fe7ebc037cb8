"""Thousands of tasks on three Celery workers while everything fails: ``python -m tests.chaos``.

Starts a PostgreSQL server and a broker of its own, and stops both while the tasks run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.postgres import Postgres


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("broker", choices=["redis", "rabbitmq"])
    parser.add_argument("--tasks", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="oc-chaos-") as folder:
        Path(folder).chmod(0o755)
        server = Postgres(Path(folder))
        try:
            return subprocess.run(
                [
                    *(sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:randomly"),
                    *("tests/conformance/test_everything_fails.py", "-k", options.broker),
                ],
                env={
                    **os.environ,
                    "DATABASE_URL": server.url,
                    "CHAOS_POSTGRES": folder,
                    "CHAOS_TASKS": str(options.tasks),
                    "CHAOS_KILL_EVERY": "3",
                },
                check=False,
            ).returncode
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())

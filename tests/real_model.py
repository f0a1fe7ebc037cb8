"""Agent tasks on a real small language model: ``python -m tests.real_model --tasks 20``.

A worker of its own on SQLite; the model's server is killed and started again while they run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.real_model", description=__doc__)
    parser.add_argument("--tasks", type=int, default=20)
    options = parser.parse_args()
    test = "tests/processes/test_real_model.py"
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "--durations=1", test],
        env={**os.environ, "REAL_MODEL_TASKS": str(options.tasks)},
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main())

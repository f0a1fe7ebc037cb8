"""What other users of the machine can read of an installation."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_nobody_else_can_read_the_database_or_the_key(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    database = data / "ollama-coder.sqlite3"
    database.touch(mode=0o644)
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(data)}
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=environment, check=True
    )
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in data.iterdir()}
    assert {"ollama-coder.sqlite3", "secret_key"} <= files.keys()
    assert set(files.values()) == {0o600}


def test_artefacts_are_for_the_console_alone() -> None:
    from config import settings

    assert settings.FILE_UPLOAD_PERMISSIONS == 0o600
    assert settings.FILE_UPLOAD_DIRECTORY_PERMISSIONS == 0o700

"""Scratch folders of workers: one each, gone with it, even when it was killed."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings


@contextlib.contextmanager
def scratch_folder(worker: str) -> Iterator[Path]:
    """A folder that holds a lock while its worker lives; folders without one are removed."""
    root: Path = settings.DATA_DIR / "work"
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    folder = root / worker
    folder.mkdir()
    with (root / f"{worker}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            (root / f"{worker}.lock").unlink(missing_ok=True)


def _sweep(root: Path) -> None:
    for path in root.glob("*.lock"):
        with contextlib.suppress(OSError), path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink(missing_ok=True)

"""Scratch folders of workers: those of the dead are removed, those of the living are not."""

import fcntl
from pathlib import Path

import pytest

from batches.consumers.scratch import scratch_folder

pytestmark = pytest.mark.either


def test_a_worker_that_was_killed_leaves_nothing_behind_for_long(settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    with scratch_folder("living") as living:
        (living / "file").touch()
        # The lock of a process goes with it, however it ends; its files do not.
        dead = tmp_path / "work/dead"
        dead.mkdir()
        (dead / "file").touch()
        lock = tmp_path / "work/dead.lock"
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with scratch_folder("early"):
                assert dead.exists()
        with scratch_folder("late"):
            assert (living / "file").exists()
            assert not dead.exists()
            assert not lock.exists()
    assert not list((tmp_path / "work").iterdir())

"""Files of an attempt on their way into Django's file storage."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from django.core.files import File as DjangoFile
from django.core.files.storage import default_storage

from batches.models import Artefact
from batches.models.evidence import artefact_path
from batches.queue.claim import Lease
from batches.queue.verdicts import File

logger = logging.getLogger(__name__)


def store(lease: Lease, announced: dict[str, tuple[str, Path]]) -> tuple[File, ...]:
    """Store the announced files that were written; what is not a plain file is left out.

    A sandboxed command may have been able to write beside them: a link is never followed.
    """
    stored = []
    for name, (media_type, path) in announced.items():
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                continue
            row = Artefact(task_id=lease.task_id, attempt=lease.attempt)
            kept = default_storage.save(artefact_path(row, name), DjangoFile(file))
        stored.append(File(name=name, media_type=media_type, path=kept, size=status.st_size))
    for folder in {path.parent.parent for _, path in announced.values()}:
        shutil.rmtree(folder, ignore_errors=True)
    return tuple(stored)


def discard(files: Iterable[File]) -> None:
    """Delete stored files whose verdict turned out to be void."""
    for file in files:
        try:
            default_storage.delete(file.path)
        except OSError:
            logger.exception("%s is left behind", file.path)

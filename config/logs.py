"""Log records as JSON Lines: only the fields named here get out, whatever else a record carries."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from batches import identity

OF_WORK = ("batch", "task", "attempt")
"""Given by a log call that is about an attempt, as ``extra``."""


class JsonFormatter(logging.Formatter):
    """One object a line. ``exception`` is the traceback as text, which shows no values."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if identity.worker:
            line["worker"] = identity.worker
        line |= {name: vars(record)[name] for name in OF_WORK if name in vars(record)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line, default=str)

"""The header ``Idempotency-Key``."""

from __future__ import annotations

import re

from rest_framework.request import Request

from batches.submission import FieldError, InvalidSubmission

HEADER, REPLAYED = "Idempotency-Key", "Idempotency-Replayed"
VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")


def key_of(request: Request) -> str | None:
    """The key of a submission, if it has one.

    Raises:
        InvalidSubmission: the header is there and holds none.
    """
    key: str | None = request.headers.get(HEADER)
    if key is not None and not VISIBLE.fullmatch(key):
        raise InvalidSubmission([FieldError(HEADER, "Must be 1 to 255 visible ASCII characters.")])
    return key

"""The body of a request as a stream: counted and hashed as it comes, never kept."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.core.handlers.wsgi import WSGIRequest
from django.http import UnreadablePostError

BLOCK = 64 * 1024


def is_chunked(meta: Mapping[str, Any]) -> bool:
    """Whether the body came in chunks, with nothing that says how long it is."""
    return bool(meta.get("HTTP_TRANSFER_ENCODING")) and not meta.get("CONTENT_LENGTH")


class Body(io.RawIOBase):
    """At most ``DATA_UPLOAD_MAX_MEMORY_SIZE`` bytes, with a length announced or in chunks.

    Reading raises ``RequestDataTooBig`` beyond that, and ``UnreadablePostError`` where the body
    ends before its announced length.
    """

    def __init__(self, request: WSGIRequest) -> None:
        super().__init__()
        self._announced = 0
        if is_chunked(request.META):
            # Django stops at the announced length; the server ends the chunks itself.
            self._read = request.environ["wsgi.input"].read
        else:
            self._announced = _length(request.META.get("CONTENT_LENGTH"))
            self._read = request.read
        self._taken = 0
        self._hash = _hash_of(request.path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        if self._announced > most:
            raise RequestDataTooBig
        try:
            data = self._read(len(buffer))
        except UnreadablePostError:
            raise
        except OSError as error:
            raise UnreadablePostError(*error.args) from error
        self._taken += len(data)
        if self._taken > most:
            raise RequestDataTooBig
        if not data and self._taken < self._announced:
            raise UnreadablePostError("the body ended early")
        self._hash.update(data)
        buffer[: len(data)] = data
        return len(data)

    def fingerprint(self) -> str:
        """The hash of the whole body, whose rest is read for it, and of the path it was sent to."""
        while self.read(BLOCK):
            pass
        return self._hash.hexdigest()


def fingerprint(path: str, body: bytes) -> str:
    """The same of a body that was read whole."""
    found = _hash_of(path)
    found.update(body)
    return found.hexdigest()


def _hash_of(path: str) -> hashlib._Hash:
    return hashlib.sha256(path.rstrip("/").encode() + b"\n")


def _length(announced: str | None) -> int:
    """As Django reads it: without a number there is no body."""
    try:
        return int(announced or 0)
    except ValueError:
        return 0

"""An HTTP client that lets no answer of a model grow without end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import httpx2
from openai import DefaultAsyncHttpxClient

ANSWER_BYTES = 16 * 1024 * 1024
"""Of one answer, as it is sent. A profile's usual 400 000 tokens of a task are 1.6 MB of
text at four bytes a token, and six times that where JSON escapes each character."""


class AnswerTooLong(Exception):
    """The server sent more than ``ANSWER_BYTES`` in one answer."""


class BoundedClient(DefaultAsyncHttpxClient):
    """Breaks off an answer, streamed or not, as soon as it has more than ``ANSWER_BYTES``."""

    async def send(
        self, request: httpx2.Request, *, stream: bool = False, **how: Any
    ) -> httpx2.Response:
        """Send a request, as httpx does.

        Raises:
            AnswerTooLong: also later, while a streamed answer is read.
        """
        # Compressed, a small answer could become a very large one.
        request.headers["Accept-Encoding"] = "identity"
        response = await super().send(request, stream=True, **how)
        response.headers.pop("Content-Encoding", None)
        response.stream = _Bounded(cast("httpx2.AsyncByteStream", response.stream))
        if not stream:
            try:
                await response.aread()
            except BaseException:
                await response.aclose()
                raise
        return response


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = ANSWER_BYTES
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise AnswerTooLong(f"more than {ANSWER_BYTES} bytes in one answer")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()

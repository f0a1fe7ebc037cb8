"""The HTTP client of a session: it remembers what the SDK does not tell of a failed request."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import httpx2

from agents.mcp.definition import Server

END_SECONDS = 0.05
"""How long the end of an answer is waited for, to keep its connection for the next request."""


class _ToItsEnd(httpx2.AsyncByteStream):
    """The body of an answer, which is read to its end before it is closed.

    The SDK closes it at the message that it waited for. The server ends it there, but a connection
    is kept only when that was read too: without this, each call opens a connection of its own.
    """

    def __init__(self, body: httpx2.AsyncByteStream) -> None:
        self._body = body
        self._chunks = aiter(body)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def aclose(self) -> None:
        try:
            with anyio.move_on_after(END_SECONDS):
                async for _ in self._chunks:
                    pass
        except httpx2.HTTPError:
            pass  # the answer was read before: only the connection is lost
        finally:
            await self._body.aclose()


class Noting(httpx2.AsyncBaseTransport):
    """What became of the last request: was the server reached at all, and with which status?"""

    def __init__(self) -> None:
        self._inner = httpx2.AsyncHTTPTransport()
        self.forget()

    def forget(self) -> None:
        self.status = 0
        """The last status of 400 or more; 0 without one."""
        self.refused = False
        """No connection could be made, so nothing was sent."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await self._inner.handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            # A GET only goes on listening for the answer to what was sent before.
            self.refused = self.refused or request.method == "POST"
            raise
        if request.method == "POST":
            if response.status_code >= 400:
                self.status = response.status_code
            assert isinstance(response.stream, httpx2.AsyncByteStream)  # noqa: S101 - as sent above
            response.stream = _ToItsEnd(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def client(server: Server, noting: Noting) -> httpx2.AsyncClient:
    """A client for one session; a header may be a secret, and goes to this server alone."""
    timeout = httpx2.Timeout(server.timeout, connect=server.connect_timeout)
    return httpx2.AsyncClient(
        headers=dict(server.headers), timeout=timeout, transport=noting, trust_env=False
    )

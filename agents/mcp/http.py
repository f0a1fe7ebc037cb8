"""The HTTP client of a session: it remembers what the SDK does not tell of a failed request."""

from __future__ import annotations

import httpx2

from agents.mcp.definition import Server


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
        if request.method == "POST" and response.status_code >= 400:
            self.status = response.status_code
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def client(server: Server, noting: Noting) -> httpx2.AsyncClient:
    """A client for one session; a header may be a secret, and goes to this server alone."""
    timeout = httpx2.Timeout(server.timeout, connect=server.connect_timeout)
    return httpx2.AsyncClient(
        headers=dict(server.headers), timeout=timeout, transport=noting, trust_env=False
    )

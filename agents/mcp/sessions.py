"""Sessions with MCP servers, kept open between the tasks of a slot.

A session costs up to a second to open and about a millisecond a call. All of them live in one
thread with an event loop, which ends with the process: a sandbox that dies with the thread that
started it then dies too.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import anyio
import httpx2
from anyio.from_thread import BlockingPortal
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    REQUEST_TIMEOUT,
    Tool,
)

from agents.mcp.definition import Server
from agents.mcp.http import Noting, client
from agents.mcp.launching import Place, WorkspaceWanted
from agents.mcp.stdio import Speech, over
from agents.paths import WorkspaceMissing
from agents.sandbox import SandboxUnavailable
from agents.toolchain import EnvironmentMissing

T = TypeVar("T")

MOST_OPEN = 8
"""Sessions of one slot; the one that was used longest ago is closed for another."""
MOST_PAGES = 100
GRACE_SECONDS = 5.0
"""How long a session may take to close."""


STAND_INS = {INTERNAL_ERROR, INVALID_REQUEST}
"""Codes that the SDK gives where an HTTP answer holds none."""
NOT_OF_THE_SERVER = (EnvironmentMissing, SandboxUnavailable, WorkspaceMissing, WorkspaceWanted)
"""Reasons why a stdio server was not started that have nothing to do with the server."""


class Unreachable(Exception):
    """No session can be opened; the text says why."""


class ServerGone(Exception):
    """The server ended, or the connection to it, while it was asked something."""


class Refused(Exception):
    """The server answered with an HTTP status instead of a message: it did nothing.

    A server that was restarted answers so to a session that it does not know.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP status {status}: {message}")
        self.status = status


class NoAnswer(Exception):
    """The server did not answer in time."""


class Session:
    """One open session. Its methods block, and belong to the thread that runs tasks."""

    def __init__(self, portal: BlockingPortal, server: Server, place: Place | None) -> None:
        self.server = server
        self.dead = False
        self._portal = portal
        self._place = place
        self._stop = anyio.Event()
        self._errors = Speech()
        self._alive: Callable[[], bool] = lambda: True
        self._noting = Noting()
        self._tools: dict[str, Tool] | None = None
        self._client: Client
        ready: concurrent.futures.Future[Client] = concurrent.futures.Future()
        self._living = portal.start_task_soon(self._live, ready)
        both: list[concurrent.futures.Future[Any]] = [self._living, ready]
        concurrent.futures.wait(
            both,
            timeout=server.connect_timeout,
            return_when=concurrent.futures.FIRST_COMPLETED,
        )
        if ready.done():
            self._client = ready.result()
            return
        self.dead = True
        reason = self._why_not()
        self._living.cancel()
        concurrent.futures.wait([self._living], timeout=GRACE_SECONDS)
        raise Unreachable(reason)

    async def _live(self, ready: concurrent.futures.Future[Client]) -> None:
        async with AsyncExitStack() as stack:
            transport = await self._transport(stack)
            ready.set_result(await stack.enter_async_context(Client(transport)))
            await self._stop.wait()

    async def _transport(self, stack: AsyncExitStack) -> Any:
        if self.server.transport == "http":
            http = await stack.enter_async_context(client(self.server, self._noting))
            return streamable_http_client(self.server.url, http_client=http)
        assert self._place is not None  # noqa: S101 - a stdio server always has one
        process = stack.enter_context(self._place.started(self.server))
        self._alive = lambda: process.poll() is None
        return over(process, self._errors)

    def _why_not(self) -> str:
        """Why no session could be opened, in words."""
        if not self._living.done():
            reason = f"it did not answer within {self.server.connect_timeout} s"
        else:
            error = _cause(self._living.exception())
            if isinstance(error, NOT_OF_THE_SERVER):
                raise error
            reason = _words(error)
            if self._noting.status:
                reason = f"HTTP status {self._noting.status}: {reason}"
        heard = str(self._errors)
        return f"{reason}: {heard}" if heard else reason

    @property
    def usable(self) -> bool:
        return not self.dead and not self._living.done() and self._alive()

    def ask(self, question: Callable[[Client], Awaitable[T]], seconds: float) -> T:
        """Ask the server something.

        Raises:
            MCPError: the server's own error.
            NoAnswer, Refused, ServerGone, Unreachable: the session is not usable any more.
        """
        self._noting.forget()
        asked = self._portal.start_task_soon(question, self._client)
        try:
            return asked.result(timeout=max(0.0, seconds))
        except concurrent.futures.TimeoutError:
            asked.cancel()
            self.close()
            raise NoAnswer(f"no answer within {seconds:.0f} s") from None
        except MCPError as error:
            if failed := self._failed(error):
                self.close()
                raise failed from error
            raise
        except (OSError, httpx2.HTTPError, anyio.BrokenResourceError, ExceptionGroup) as error:
            self.close()
            raise ServerGone(self._last_words(error)) from error

    def _failed(self, error: MCPError) -> Exception | None:
        """What the SDK's error says of the session; nothing where it is the server's own answer."""
        if error.code == REQUEST_TIMEOUT:
            return NoAnswer(error.message)
        if self._noting.refused:
            return Unreachable("no connection can be made")
        if self._noting.status >= 500:
            return ServerGone(f"HTTP status {self._noting.status}")
        if self._noting.status and error.code in STAND_INS:
            return Refused(self._noting.status, error.message)
        if error.code == CONNECTION_CLOSED or not self.usable:
            return ServerGone(self._last_words(error))
        return None

    def _last_words(self, error: BaseException) -> str:
        heard = str(self._errors)
        return f"{_words(error)}: {heard}" if heard else _words(error)

    def tools(self, seconds: float, *, afresh: bool = False) -> dict[str, Tool]:
        """The server's tools by name, asked for once a session unless ``afresh``."""
        if self._tools is None or afresh:
            self._tools = self.ask(_all_tools, seconds)
        return self._tools

    def close(self) -> None:
        """End the session, and the process of a stdio server with it."""
        self.dead = True
        self._portal.start_task_soon(_set, self._stop)
        concurrent.futures.wait([self._living], timeout=GRACE_SECONDS)
        self._living.cancel()


class Sessions:
    """The open sessions of this process."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}
        self._portal = _portal()

    def of(self, server: Server, place: Place | None) -> Session:
        """A session with the server as it is described now, an open one if there is.

        Raises:
            Unreachable: it cannot be opened.
            REFUSALS of ``agents.command_run``: a stdio server cannot be started as asked.
        """
        key = f"{server.fingerprint} {place.key if place else ''}"
        if (session := self._open.pop(key, None)) is not None and not session.usable:
            session.close()
            session = None
        if session is None:
            for name in [name for name, other in self._open.items() if not other.usable]:
                self._open.pop(name).close()
            while len(self._open) >= MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            session = Session(self._portal, server, place)
        self._open[key] = session  # the newest last
        return session


async def _set(event: anyio.Event) -> None:
    event.set()


async def _all_tools(client: Client) -> dict[str, Tool]:
    found: dict[str, Tool] = {}
    cursor: str | None = None
    for _page in range(MOST_PAGES):
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        found |= {tool.name: tool for tool in page.tools}
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def _portal() -> BlockingPortal:
    """An event loop in a thread of its own, for as long as the process lives."""
    ready: concurrent.futures.Future[BlockingPortal] = concurrent.futures.Future()

    async def serve() -> None:
        async with BlockingPortal() as portal:
            ready.set_result(portal)
            await portal.sleep_until_stopped()

    threading.Thread(target=anyio.run, args=(serve,), name="mcp", daemon=True).start()
    return ready.result()


def _cause(error: BaseException | None) -> BaseException | None:
    """The first cause in a group of errors: the SDK reports those of its tasks together."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _words(error: BaseException | None) -> str:
    cause = _cause(error)
    return str(cause) or type(cause).__name__

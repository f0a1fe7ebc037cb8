"""The stdio transport of MCP over a process that the sandbox started.

The SDK's own transport starts the server itself, unheld and with a part of our environment.
Messages are lines of JSON (MCP 2025-11-25, transports).
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import mcp_types
from mcp.shared.message import SessionMessage

LONGEST_MESSAGE = 32 * 1024 * 1024
LAST_WORDS = 4000
"""Bytes of standard error that are kept, to say why a server ended."""


class Speech:
    """What a server said last on its standard error."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def add(self, chunk: bytes) -> None:
        self._kept += chunk
        del self._kept[:-LAST_WORDS]

    def __str__(self) -> str:
        return self._kept.decode("utf-8", errors="replace").strip()


@asynccontextmanager
async def over(process: subprocess.Popen[bytes], errors: Speech) -> AsyncIterator[Any]:
    """A transport as ``mcp.Client`` takes it: a pair of streams, closed when the server ends."""
    to_session, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    to_server, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    answers, answering = await _reading(process.stdout)
    complaints, complaining = await _reading(process.stderr)
    requests = await _writing(process.stdin)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_until_closed, _hear, answers, to_session)
        tasks.start_soon(_until_closed, _listen, complaints, errors)
        tasks.start_soon(_until_closed, _speak, from_session, requests)
        try:
            yield from_server, to_server
        finally:
            # The loop must let go of the pipes before they are closed: numbers are used again.
            for transport in (requests.transport, answering, complaining):
                transport.close()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
    for stream in (from_server, to_server):
        await stream.aclose()


async def _hear(answers: asyncio.StreamReader, to_session: Any) -> None:
    async with to_session:
        while line := await _line_of(answers):
            await to_session.send(_parsed(line))


async def _listen(complaints: asyncio.StreamReader, errors: Speech) -> None:
    while chunk := await complaints.read(4096):
        errors.add(chunk)


async def _speak(from_session: Any, requests: asyncio.StreamWriter) -> None:
    async with from_session:
        async for message in from_session:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            requests.write(text.encode() + b"\n")
            try:
                await requests.drain()
            except ConnectionError:
                return  # it ended: whoever waits for an answer hears that from the other side


async def _until_closed(task: Any, *arguments: Any) -> None:
    try:
        await task(*arguments)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # the session is gone


async def _line_of(reader: asyncio.StreamReader) -> bytes:
    """One message; nothing at the end, which a message longer than any is too."""
    try:
        return await reader.readline()
    except ValueError:
        return b""


def _parsed(line: bytes) -> SessionMessage | Exception:
    try:
        return SessionMessage(mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error  # the session decides what to do about it


async def _reading(pipe: Any) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    reader = asyncio.StreamReader(limit=LONGEST_MESSAGE)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader, transport


async def _writing(pipe: Any) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, pipe)
    return asyncio.StreamWriter(transport, protocol, None, loop)

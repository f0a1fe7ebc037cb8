"""Registering MCP servers, and telling slots how to reach them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from agents.contract import BUILT_IN_SERVER, MCP_SERVERS
from batches.models import McpServer
from batches.references import check_address, check_reference, followed, is_ours
from batches.references import resolved as resolve
from batches.states import Transport
from batches.submission import FieldError, FieldErrors, InvalidSubmission
from batches.workspaces import VARIABLE

FIELDS = (
    "command", "url", "variables", "headers", "secrets", "folders", "network", "tools", "timeout",
    "connect_timeout", "enabled",
)  # fmt: skip
HEADER = re.compile(r"\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
"""A field name (RFC 9110, 5.1)."""


def register(
    name: str,
    values: dict[str, Any],
    groups: Iterable[Group] = (),
    added: Callable[[McpServer], object] = lambda _server: None,
) -> McpServer:
    """Store a server; ``added`` is called in the transaction.

    Raises:
        InvalidSubmission: names each field that is wrong; nothing was stored.
    """
    server = McpServer(name=name)
    _set(server, values)
    try:
        with transaction.atomic():
            server.save(force_insert=True)
            server.groups.set(groups)
            added(server)
    except IntegrityError:
        raise InvalidSubmission([FieldError("name", "Is taken.")]) from None
    return server


def change(server: McpServer, values: dict[str, Any]) -> None:
    """Change and store some fields, within the caller's transaction.

    Raises:
        InvalidSubmission: names each field that is wrong; nothing was stored.
    """
    _set(server, values)
    # Only what was given: somebody else may change another field at this moment.
    server.save(update_fields=[*values, "transport"])


def _set(server: McpServer, values: dict[str, Any]) -> None:
    for field, value in values.items():
        setattr(server, field, value)
    errors = FieldErrors()
    if server.name == BUILT_IN_SERVER:
        errors.add("name", "Is the built-in server's.")
    server.command = errors.caught("command", _checked_command, server.command)
    server.transport = Transport.HTTP if server.url and not server.command else Transport.STDIO
    if bool(server.command) == bool(server.url):
        errors.add("command", "Give either a command (stdio) or a url (HTTP).")
    errors.caught("url", _check_url, server.url)
    errors.caught("variables", _check_variables, server.variables)
    errors.caught("headers", _check_headers, server.headers)
    errors.caught("secrets", _check_secrets, server.secrets)
    errors.caught("folders", _check_folders, server.folders)
    errors.caught("tools", _check_tools, server.tools)
    try:
        server.full_clean(validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        for field, messages in error.message_dict.items():
            errors.add(field, " ".join(messages))
    errors.raise_any()


def _checked_command(command: Any) -> list[str]:
    if isinstance(command, str):
        try:
            command = shlex.split(command)
        except ValueError as error:
            raise ValueError(f"Cannot be read as a command line: {error}.") from None
    if not _texts(command) or any("\0" in word for word in command):
        raise ValueError("Must be a command line, or a list of its words.")
    if command and "/" in command[0] and not command[0].startswith("/"):
        raise ValueError("Must begin with a program's name or its absolute path.")
    words: list[str] = command
    return words


def _check_url(url: str) -> None:
    if url:
        check_address(url, "https://example.org/mcp")


def _check_variables(variables: Any) -> None:
    if not _named_texts(variables) or not all(VARIABLE.match(name) for name in variables):
        raise ValueError("Must map names of variables to texts.")


def _check_headers(headers: Any) -> None:
    if not _named_texts(headers) or not all(HEADER.match(name) for name in headers):
        raise ValueError("Must map names of headers to texts.")
    if any("\n" in value or "\r" in value for value in headers.values()):
        raise ValueError("A value holds a line break.")


def _check_secrets(secrets: Any) -> None:
    if not _named_texts(secrets) or not all(HEADER.match(name) for name in secrets):
        raise ValueError("Must map names of variables or headers to env:NAME or file:/PATH.")
    for reference in secrets.values():
        check_reference(reference)


def _check_folders(folders: Any) -> None:
    if not _texts(folders) or not all(folder.startswith("/") for folder in folders):
        raise ValueError("Must be a list of absolute paths.")
    if any("\0" in folder for folder in folders):
        raise ValueError("A path holds a NUL character.")
    for folder in folders:
        if is_ours(folder) or followed(settings.DATA_DIR).is_relative_to(followed(folder)):
            raise ValueError(f"{folder} holds the console's own data, which no server sees.")


def _check_tools(tools: Any) -> None:
    if tools is not None and not _texts(tools):
        raise ValueError("Must be a list of names of tools; null allows all.")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) and word for word in value)


def _named_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(text, str) and "\0" not in text for text in value.values()
    )


def processor_settings() -> dict[str, Any]:
    """What slots are told: every enabled server, its secrets resolved on this machine.

    A server whose secret is not there is told with its ``problem``: tasks wait for it.
    """
    rows = McpServer.objects.filter(enabled=True)
    return {MCP_SERVERS: {server.name: described(server) for server in rows}}


def described(server: McpServer) -> dict[str, Any]:
    """One server as ``agents.mcp.definition.find`` reads it, secrets and all."""
    resolved: dict[str, str] = {}
    problem = ""
    for name, reference in server.secrets.items():
        try:
            resolved[name] = resolve(reference)
        except LookupError as error:
            problem = f"the secret {name} cannot be read: {error.args[0]}"
    stdio = server.transport == Transport.STDIO
    return {
        "transport": server.transport,
        "command": server.command,
        "url": server.url,
        "variables": server.variables | (resolved if stdio else {}),
        "headers": server.headers | ({} if stdio else resolved),
        "folders": server.folders,
        "network": server.network,
        "tools": server.tools,
        "timeout": server.timeout,
        "connect_timeout": server.connect_timeout,
        "problem": problem,
    }

"""Registers the MCP servers that operations are carried out on."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from agents.contract import BUILT_IN_SERVER
from batches import operations
from batches.management.arguments import assignment, whole_number
from batches.management.asking import add_user, asker
from batches.management.base import ConsoleCommand, typed
from batches.management.commands.workspace import absolute, named_group
from batches.models import McpServer
from batches.supervision.checking import check

SHOWN = (
    "name", "transport", "command", "url", "secrets", "folders", "network", "tools", "timeout",
    "connect_timeout", "enabled",
)  # fmt: skip
"""Not the values of variables and headers, which may be secrets."""


class Command(ConsoleCommand):
    help = "Add, list, check or remove MCP servers. The built-in one, filesystem, is always there."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        self._add_adding(verbs.add_parser("add", help="register a server"))
        listing = verbs.add_parser("list", help="show all")
        listing.add_argument("--json", action="store_true")
        checking = verbs.add_parser("check", help="open a session and ask for the tools")
        checking.add_argument("name")
        checking.add_argument("--json", action="store_true")
        remove = verbs.add_parser("remove", help="forget one")
        remove.add_argument("name")
        add_user(remove)
        remove.add_argument("--json", action="store_true")

    def _add_adding(self, add: ArgumentParser) -> None:
        add.add_argument("name", help="small letters, digits, dots, dashes, underscores")
        how = add.add_mutually_exclusive_group(required=True)
        how.add_argument(
            "--command",
            help="what starts a stdio server; {workspace} stands for the folder of the task",
            dest="line",
        )
        how.add_argument("--url", default="", help="address of a server over streamable HTTP")

        def repeated(name: str, **more: Any) -> None:
            add.add_argument(name, action="append", default=[], **more)

        pair = {"type": assignment, "metavar": "NAME=VALUE"}
        repeated("--variable", help="environment of a stdio server", **pair)
        repeated("--header", help="sent to an HTTP server", **pair)
        repeated(
            "--secret",
            type=assignment,
            metavar="NAME=env:NAME|file:/PATH",
            help="a variable or header whose value only the workers know",
        )
        repeated("--folder", help="a folder that a stdio server may read")
        repeated("--tool", help="a tool that tasks may call; without any, all of them")
        repeated("--group", help="a group that may use it")
        add.add_argument("--network", action="store_true", help="a stdio server may use it")
        add.add_argument("--timeout", type=whole_number(1, 3300), default=60, help="of a call (60)")
        add_user(add)
        add.add_argument("--json", action="store_true")

    def handle(self, *_args: Any, **options: Any) -> None:
        match options["verb"]:
            case "add":
                self.add(options)
            case "list":
                self.list(as_json=options["json"])
            case "check":
                self.check_server(options["name"], as_json=options["json"])
            case "remove":
                self.remove(options)

    def add(self, options: dict[str, Any]) -> None:
        server = operations.add_mcp_server(
            options["name"],
            command=options["line"] or [],
            url=options["url"],
            variables=dict(options["variable"]),
            headers=dict(options["header"]),
            secrets=dict(options["secret"]),
            folders=[absolute(folder) for folder in options["folder"]],
            tools=options["tool"] or None,
            network=options["network"],
            timeout=options["timeout"],
            groups=[named_group(name) for name in options["group"]],
            by=asker(options["user"]),
        )
        if options["json"]:
            self.stdout.write(json.dumps(described(server)))
        else:
            self.stdout.write(f"{server.name} is {reached_by(server)}")
            self.stderr.write(f"Try it: {typed(f'mcp check {server.name}')}")
        if not options["group"]:
            self.stderr.write(
                "Only administrators may use it so far: --group NAME lets a group of users."
            )

    def list(self, *, as_json: bool) -> None:
        servers = list(McpServer.objects.prefetch_related("groups"))
        if as_json:
            self.stdout.write(json.dumps([described(server) for server in servers], indent=2))
            return
        if not servers:
            self.stderr.write(
                "No servers yet, but for the built-in one, filesystem. "
                f"Add one: {typed('mcp add NAME --command …')}"
            )
        width = max((len(server.name) for server in servers), default=0)
        for server in servers:
            off = "" if server.enabled else "  (disabled)"
            self.stdout.write(f"{server.name:{width}}  {reached_by(server)}{off}")

    def check_server(self, name: str, *, as_json: bool) -> None:
        checked = check(named(name))
        if as_json:
            self.stdout.write(json.dumps({"name": name} | asdict(checked)))
        elif checked.ok:
            self.stdout.write(f"{name} {checked.said}")
        if not checked.ok:
            raise CommandError(f"{name} {checked.said}")

    def remove(self, options: dict[str, Any]) -> None:
        server = named(options["name"])
        operations.remove_mcp_server(server, by=asker(options["user"]))
        if options["json"]:
            self.stdout.write(json.dumps({"removed": server.name}))
        else:
            self.stdout.write(f"{server.name} is no longer a server of operations.")


def named(name: str) -> McpServer:
    server: McpServer | None = McpServer.objects.filter(name=name).first()
    if server is None:
        if name == BUILT_IN_SERVER:
            raise CommandError(
                f"{name} is the built-in server: it is always there, and nothing of it is "
                "registered."
            )
        known = ", ".join(McpServer.objects.values_list("name", flat=True)) or "none yet"
        raise CommandError(f"There is no MCP server {name!r} ({known}).")
    return server


def reached_by(server: McpServer) -> str:
    return server.url or " ".join(server.command)


def described(server: McpServer) -> dict[str, Any]:
    """A server for a program."""
    return {
        **{field: getattr(server, field) for field in SHOWN},
        "groups": [group.name for group in server.groups.all()],
    }

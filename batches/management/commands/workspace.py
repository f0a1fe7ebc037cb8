"""Registers the folders that tasks work in."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group
from django.core.management.base import CommandError

from batches import operations
from batches.management.arguments import assignment
from batches.management.asking import add_user, asker
from batches.management.base import ConsoleCommand, typed
from batches.models import Workspace


class Command(ConsoleCommand):
    help = "Add, list or remove workspaces: the folders that tasks work in."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        add = verbs.add_parser("add", help="register a folder")
        add.add_argument("name", help="small letters, digits, dots, dashes, underscores")
        add.add_argument("path", help="the folder")
        add.add_argument(
            "--venv", default="", help="virtual environment of its commands (its own .venv)"
        )
        add.add_argument(
            "--path", action="append", default=[], dest="folders", help="a folder added to PATH"
        )
        add.add_argument(
            "--variable", action="append", default=[], type=assignment, metavar="NAME=VALUE"
        )
        add.add_argument(
            "--group", action="append", default=[], help="a group that sees its batches"
        )
        add_user(add)
        add.add_argument("--json", action="store_true")
        listing = verbs.add_parser("list", help="show all")
        listing.add_argument("--json", action="store_true")
        remove = verbs.add_parser("remove", help="forget one; the folder stays as it is")
        remove.add_argument("name")
        add_user(remove)
        remove.add_argument("--json", action="store_true")

    def handle(self, *_args: Any, **options: Any) -> None:
        match options["verb"]:
            case "add":
                self.add(options)
            case "list":
                self.list(as_json=options["json"])
            case "remove":
                self.remove(options)

    def add(self, options: dict[str, Any]) -> None:
        workspace = operations.add_workspace(
            options["name"],
            absolute(options["path"]),
            environment={
                "virtualenv": absolute(options["venv"]) if options["venv"] else "",
                "path": [absolute(folder) for folder in options["folders"]],
                "variables": dict(options["variable"]),
            },
            groups=[named_group(name) for name in options["group"]],
            by=asker(options["user"]),
        )
        if options["json"]:
            self.stdout.write(json.dumps(described(workspace)))
        else:
            self.stdout.write(f"{workspace.name} is {workspace.path}")
        if not options["group"]:
            self.stderr.write(
                "Only administrators see it so far: --group NAME shows it to a group of users."
            )

    def list(self, *, as_json: bool) -> None:
        workspaces = list(Workspace.objects.prefetch_related("groups"))
        if as_json:
            self.stdout.write(json.dumps([described(each) for each in workspaces], indent=2))
            return
        if not workspaces:
            self.stderr.write(f"No workspaces yet. Add one: {typed('workspace add NAME PATH')}")
        width = max((len(workspace.name) for workspace in workspaces), default=0)
        for workspace in workspaces:
            groups = ", ".join(group.name for group in workspace.groups.all())
            seen_by = f"  (seen by {groups})" if groups else ""
            self.stdout.write(f"{workspace.name:{width}}  {workspace.path}{seen_by}")

    def remove(self, options: dict[str, Any]) -> None:
        name = options["name"]
        workspace = Workspace.objects.filter(name=name).first()
        if workspace is None:
            raise CommandError(f"There is no workspace {name!r}.")
        operations.remove_workspace(workspace, by=asker(options["user"]))
        if options["json"]:
            self.stdout.write(json.dumps({"removed": name, "path": workspace.path}))
        else:
            self.stdout.write(f"{name} is no longer a workspace; its folder stays as it is.")


def described(workspace: Workspace) -> dict[str, Any]:
    """A workspace for a program."""
    return {
        "name": workspace.name,
        "path": workspace.path,
        "environment": workspace.environment,
        "groups": [group.name for group in workspace.groups.all()],
    }


def absolute(path: str) -> str:
    """As seen from where the command was typed."""
    return str(Path(path).expanduser().absolute())


def named_group(name: str) -> Group:
    group = Group.objects.filter(name=name).first()
    if group is None:
        known = ", ".join(Group.objects.order_by("name").values_list("name", flat=True))
        raise CommandError(f"--group: {name!r} is not one of {known}.")
    return group

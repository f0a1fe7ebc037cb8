"""MCP servers: registered, changed and removed through ``operations``, and checked on demand."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from batches import operations
from batches.admin import markup
from batches.admin.base import actor_of
from batches.admin.checking import CheckedAdmin
from batches.admin.skin import Textarea, TextInput
from batches.admin.stored import StoredAdmin, StoredForm
from batches.admin.workspaces import lines_of
from batches.models import McpServer
from batches.supervision.checking import check_each

PAIRS = ("variables", "headers", "secrets")
LISTS = ("folders", "tools")


def area(label: str, hint: str, rows: int = 3) -> Any:
    return forms.CharField(
        required=False, label=label, widget=Textarea(attrs={"rows": rows}), help_text=hint
    )


class ServerForm(StoredForm):
    """Lists and maps as lines of text."""

    command = forms.CharField(
        required=False,
        widget=TextInput,
        help_text="Starts a server that is spoken to over standard input and output, in the "
        "sandbox. {workspace} stands for the task's folder.",
    )
    variables = area("Variables", "NAME=value, one a line: the environment of that command.")
    headers = area("Headers", "NAME=value, one a line: sent with requests to the address.")
    secrets = area(
        "Secrets",
        "NAME=env:OTHER or NAME=file:/path, one a line: a variable or header whose value only the "
        "workers know.",
    )
    folders = area("Folders", "One a line: what that command may read besides the workspace.")
    tools = area("Tools", "One a line: those that tasks may call. Empty: all of them.")

    class Meta:
        model = McpServer
        fields = ("name", "url", "network", "timeout", "connect_timeout", "enabled", "groups")
        help_texts = {
            "name": "Small letters, digits, dots, dashes and underscores. It cannot be changed.",
            "url": "Address of a server over streamable HTTP, in place of a command.",
            "network": "May the command use the network?",
            "timeout": "Seconds for one call.",
            "connect_timeout": "Seconds until it must answer for the first time.",
            "groups": "Members may use it, besides admins.",
        }
        labels = {"url": "Address"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        server = self.instance
        self.initial = {**self.initial, "command": shlex.join(server.command)}
        for field in PAIRS:
            pairs = getattr(server, field).items()
            self.initial[field] = "\n".join(f"{name}={value}" for name, value in pairs)
        for field in LISTS:
            self.initial[field] = "\n".join(getattr(server, field) or ())

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or self.cleaned_data
        for field in PAIRS:
            pairs = [line.partition("=") for line in lines_of(data.get(field, ""))]
            if wrong := [name for name, equals, _ in pairs if not (name and equals)]:
                self.add_error(
                    field, ValidationError(f"{wrong[0]!r} is not of the form NAME=value.")
                )
            data[field] = {name: value for name, _, value in pairs}
        for field in LISTS:
            data[field] = lines_of(data.get(field, ""))
        data["tools"] = data["tools"] or None
        return data

    def stored(self) -> McpServer:
        wanted = {name: value for name, value in self.cleaned_data.items() if name != "name"}
        wanted["groups"] = list(wanted["groups"])
        if self.instance._state.adding:  # noqa: SLF001
            return operations.add_mcp_server(self.cleaned_data["name"], **wanted, by=self.by)
        stored = McpServer.objects.get(pk=self.instance.pk)
        changed = {name: wanted[name] for name in self.changed_data if name in wanted}
        operations.change_mcp_server(stored, **changed, by=self.by)
        return stored


@admin.register(McpServer)
class McpServerAdmin(StoredAdmin, CheckedAdmin):
    nothing_yet = "None was added. The built-in one, filesystem, is always there."
    form = ServerForm
    check_label = "Check that it answers"
    list_display = ("name", "reached_by", "allowed_tools", "enabled", "group_names")
    search_fields = ("name", "url")
    sortable_by = ()
    filter_horizontal = ("groups",)
    fields = (
        "name", "command", "url", "variables", "headers", "secrets", "folders", "network", "tools",
        "timeout", "connect_timeout", "enabled", "groups",
    )  # fmt: skip
    looked_at = ("name", "reached_by", "allowed_tools", "enabled", "group_names")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return McpServer.objects.visible_to(request.user).prefetch_related("groups")

    def look_at(self, rows: Iterable[McpServer]) -> Iterator[tuple[bool, str]]:
        """Open a session with each, several side by side."""
        for server, checked in check_each(rows):
            yield checked.ok, f"{server.name} {checked.said}"

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        operations.remove_mcp_server(obj, by=actor_of(request))

    @admin.display(description="Reached by")
    def reached_by(self, server: McpServer) -> SafeString:
        return markup.clipped(server.url or shlex.join(server.command))

    @admin.display(description="Tools")
    def allowed_tools(self, server: McpServer) -> str:
        return "all" if server.tools is None else ", ".join(server.tools)

    @admin.display(description="Groups")
    def group_names(self, server: McpServer) -> str:
        return ", ".join(group.name for group in server.groups.all()) or markup.NOTHING

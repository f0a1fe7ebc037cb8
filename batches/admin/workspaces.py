"""Workspaces: registered, changed and removed through ``operations``, which checks the folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString

from batches import operations
from batches.admin import markup
from batches.admin.base import actor_of
from batches.admin.checking import CheckedAdmin
from batches.admin.skin import Textarea, TextInput
from batches.admin.stored import StoredAdmin, StoredForm
from batches.models import Worker, Workspace
from batches.places import can_open


class WorkspaceForm(StoredForm):
    """The environment as three plain fields instead of a JSON object.

    The last step of validation stores the workspace: only ``operations`` can say what is wrong with
    a folder, and what it says belongs beside the fields.
    """

    virtualenv = forms.CharField(
        required=False,
        widget=TextInput,
        help_text="Folder of the virtualenv its commands run in; empty: its own .venv, if any.",
    )
    extra_path = forms.CharField(
        required=False,
        label="Extra PATH",
        widget=Textarea(attrs={"rows": 3}),
        help_text="Folders put in front of PATH, one a line.",
    )
    variables = forms.CharField(
        required=False,
        widget=Textarea(attrs={"rows": 5}),
        help_text="NAME=value, one a line. Commands of its tasks see nothing else.",
    )

    class Meta:
        model = Workspace
        fields = ("name", "path", "groups")
        help_texts = {
            "name": "Small letters, digits, dots, dashes and underscores. It cannot be changed.",
            "path": "Absolute path of a folder that the workers can open.",
            "groups": "Members see the batches of this workspace, besides owners and admins.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        environment = self.instance.environment
        self.initial = {
            **self.initial,
            "virtualenv": environment.get("virtualenv", ""),
            "extra_path": "\n".join(environment.get("path", [])),
            "variables": "\n".join(
                f"{name}={value}" for name, value in environment.get("variables", {}).items()
            ),
        }

    def clean_extra_path(self) -> list[str]:
        return lines_of(self.cleaned_data["extra_path"])

    def clean_variables(self) -> dict[str, str]:
        pairs = [line.partition("=") for line in lines_of(self.cleaned_data["variables"])]
        if wrong := [name for name, equals, _ in pairs if not (name and equals)]:
            raise ValidationError(f"{wrong[0]!r} is not of the form NAME=value.")
        return {name: value for name, _, value in pairs}

    def stored(self) -> Workspace:
        """The workspace as ``operations`` stored it."""
        data = self.cleaned_data
        wanted = {
            "path": data["path"],
            "groups": list(data["groups"]),
            "environment": {
                "virtualenv": data["virtualenv"],
                "path": data["extra_path"],
                "variables": data["variables"],
            },
        }
        if self.instance.pk is None or self.instance._state.adding:  # noqa: SLF001
            return operations.add_workspace(data["name"], **wanted, by=self.by)
        stored = Workspace.objects.get(pk=self.instance.pk)
        # A path that stays is not looked at again: the folder may be on the workers' machine only.
        changed = {name if name in wanted else "environment" for name in self.changed_data}
        operations.change_workspace(stored, **{name: wanted[name] for name in changed}, by=self.by)
        return stored

    def field_of(self, path: str) -> str | None:
        """For a path such as ``environment.variables.PATH``."""
        if path.startswith("environment.path"):
            return "extra_path"
        name = path.removeprefix("environment.").split(".")[0]
        return name if name in self.fields else None


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


@admin.register(Workspace)
class WorkspaceAdmin(StoredAdmin, CheckedAdmin):
    form = WorkspaceForm
    check_label = "Check the folder"
    list_display = ("name", "folder", "group_names", "created")
    search_fields = ("name", "path")
    sortable_by = ()
    filter_horizontal = ("groups",)
    fields = ("name", "path", "virtualenv", "extra_path", "variables", "groups")
    looked_at = (
        "name",
        "path",
        "virtualenv_path",
        "extra_folders",
        "variable_names",
        "group_names",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return Workspace.objects.visible_to(request.user).prefetch_related("groups")

    def look_at(self, rows: Iterable[Workspace]) -> Iterator[tuple[bool, str]]:
        """Can this machine open it, and how many workers can?"""
        workers = list(Worker.objects.live())
        for workspace in rows:
            able = sum(str(workspace.pk) in worker.workspaces for worker in workers)
            here = "can" if can_open(workspace) else "cannot"
            said = (
                f"{workspace.name}: the web server's machine {here} open {workspace.path}; "
                f"{able} of {len(workers)} live workers can."
            )
            yield bool(able or (here == "can" and not workers)), said

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        operations.remove_workspace(obj, by=actor_of(request))

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except operations.Conflict as conflict:
            self.message_user(request, str(conflict), messages.ERROR)
            return HttpResponseRedirect(reverse("admin:batches_workspace_changelist"))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Without a list of its batches, which may be many: ``operations`` refuses if there are."""
        return [str(workspace) for workspace in objs], {}, set(), []

    @admin.display(description="Folder")
    def folder(self, workspace: Workspace) -> SafeString:
        return markup.clipped(workspace.path)

    @admin.display(description="Groups")
    def group_names(self, workspace: Workspace) -> str:
        return ", ".join(group.name for group in workspace.groups.all()) or markup.NOTHING

    @admin.display(description="Created")
    def created(self, workspace: Workspace) -> SafeString | str:
        return markup.moment(workspace.created_at)

    @admin.display(description="Virtualenv")
    def virtualenv_path(self, workspace: Workspace) -> str:
        return workspace.environment.get("virtualenv") or "its own, or the console's"

    @admin.display(description="Extra PATH")
    def extra_folders(self, workspace: Workspace) -> str:
        return ", ".join(workspace.environment.get("path", [])) or markup.NOTHING

    @admin.display(description="Variables")
    def variable_names(self, workspace: Workspace) -> str:
        """Names only: a value may be a secret of those who may change the workspace."""
        return ", ".join(workspace.environment.get("variables", {})) or markup.NOTHING

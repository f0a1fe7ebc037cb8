"""Models: registered, changed and removed through ``operations``, and checked on demand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from batches import operations
from batches.admin import markup
from batches.admin.base import actor_of
from batches.admin.checking import CheckedAdmin
from batches.admin.stored import StoredAdmin, StoredForm
from batches.model_profiles import FIELDS
from batches.models import ModelProfile
from batches.supervision.model_checks import check_models


class ProfileForm(StoredForm):
    class Meta:
        model = ModelProfile
        fields = ("name", *FIELDS)
        labels = {"num_ctx": "Context", "endpoint": "Address", "secret": "API key"}
        help_texts = {
            "name": "What tasks call it, such as qwen2.5-coder:7b. It cannot be changed.",
            "endpoint": "Of its server, such as http://127.0.0.1:11434. Empty: that of "
            "OLLAMA_BASE_URL.",
            "model": "Its name on that server, where that is another one.",
            "num_ctx": "Tokens that Ollama loads it with. Empty: 16,384.",
            "temperature": "0 to 2. Empty: the server's.",
            "keep_alive": "How long Ollama keeps it in memory, such as 10m or -1 for ever.",
            "secret": "env:NAME or file:/path, where the workers find it. It is not stored.",
            "parallel": "Most tasks that use it at once, over all workers. Empty: no limit.",
            "max_requests": "Of one task.",
            "max_tool_calls": "Of one task.",
            "max_tokens": "Of one task, in and out.",
            "max_files": "That one task may change.",
            "max_bytes": "That one task may write.",
            "request_timeout": "Seconds for one answer.",
            "enabled": "Without it no task may name the model, and those that wait for it wait on.",
        }

    def stored(self) -> ModelProfile:
        wanted = {name: value for name, value in self.cleaned_data.items() if name != "name"}
        if self.instance._state.adding:  # noqa: SLF001
            return operations.add_model(self.cleaned_data["name"], **wanted, by=self.by)
        stored: ModelProfile = ModelProfile.objects.get(pk=self.instance.pk)
        changed = {name: wanted[name] for name in self.changed_data if name in wanted}
        operations.change_model(stored, **changed, by=self.by)
        return stored


@admin.register(ModelProfile)
class ModelProfileAdmin(StoredAdmin, CheckedAdmin):
    nothing_yet = "None was added. Tasks may name any model of Ollama's without that."
    form = ProfileForm
    check_label = "Check that it answers"
    list_display = ("name", "reached_at", "context", "most_at_once", "enabled")
    search_fields = ("name", "endpoint", "model")
    sortable_by = ()
    fields = ProfileForm.Meta.fields
    looked_at = ("name", "protocol", "reached_at", "context", "most_at_once", "enabled")

    def look_at(self, rows: Iterable[ModelProfile]) -> Iterator[tuple[bool, str]]:
        """Ask the server of each, several side by side, what it has and what is loaded."""
        for name, checked in check_models(row.name for row in rows):
            yield checked.ok, f"{name} {checked.said}"

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        operations.remove_model(obj, by=actor_of(request))

    @admin.display(description="Reached at")
    def reached_at(self, profile: ModelProfile) -> SafeString:
        address = profile.endpoint or settings.OLLAMA_BASE_URL
        model = f" as {profile.model}" if profile.model else ""
        return markup.clipped(f"{address}{model}")

    @admin.display(description="Context")
    def context(self, profile: ModelProfile) -> str:
        return f"{profile.num_ctx:,} tokens" if profile.num_ctx else markup.NOTHING

    @admin.display(description="At once")
    def most_at_once(self, profile: ModelProfile) -> str:
        return str(profile.parallel) if profile.parallel else "no limit"

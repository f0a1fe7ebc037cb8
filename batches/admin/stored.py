"""Forms whose last step of validation is ``operations``, and the pages around them."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpRequest

from batches.admin.base import ModelForm, RecordedAdmin, actor_of
from batches.audit import Actor
from batches.submission import InvalidSubmission


class StoredForm(ModelForm):
    """Stores its row while it is validated: what ``operations`` says is wrong belongs beside the
    fields."""

    by: ClassVar[Actor]
    """Who saves it: each request has a form class of its own."""

    def full_clean(self) -> None:
        super().full_clean()
        if self.is_bound and not self.errors:
            try:
                self.instance = self.stored()
            except InvalidSubmission as refusal:
                for error in refusal.errors:
                    self.add_error(self.field_of(error.field), error.message)

    def field_of(self, path: str) -> str | None:
        """The form's field for a field of ``operations``; None: it has none of its own."""
        return path if path in self.fields else None

    def stored(self) -> Any:
        """The row as ``operations`` stored it."""
        raise NotImplementedError


class StoredAdmin(RecordedAdmin):
    """Pages of a ``StoredForm``; those who may only look see ``looked_at``."""

    looked_at: ClassVar[tuple[str, ...]]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is not None and not self.has_change_permission(request, obj):
            return self.looked_at
        return self.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ()
        return ("name",) if self.has_change_permission(request, obj) else self.looked_at

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, *args, **kwargs)
        form.by = actor_of(request)
        return form

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Nothing: the form has stored it."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: Any) -> None:
        """Nothing: the form has stored that too."""

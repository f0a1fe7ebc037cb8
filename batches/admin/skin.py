"""The only module that knows the admin's skin: the others would run on plain Django."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.contrib import admin
    from django.contrib.auth.forms import (
        AdminPasswordChangeForm,
        AdminUserCreationForm,
        UserChangeForm,
    )
    from django.forms import CheckboxInput, Textarea, TextInput

    ModelAdmin = admin.ModelAdmin[Any]
else:
    from unfold.admin import ModelAdmin
    from unfold.forms import (
        AdminPasswordChangeForm,
        UserChangeForm,
    )
    from unfold.forms import (
        UserCreationForm as AdminUserCreationForm,
    )
    from unfold.widgets import (
        UnfoldAdminTextareaWidget as Textarea,
    )
    from unfold.widgets import (
        UnfoldAdminTextInputWidget as TextInput,
    )
    from unfold.widgets import (
        UnfoldBooleanSwitchWidget as CheckboxInput,
    )

__all__ = [
    "AdminPasswordChangeForm",
    "AdminUserCreationForm",
    "CheckboxInput",
    "ModelAdmin",
    "TextInput",
    "Textarea",
    "UserChangeForm",
]

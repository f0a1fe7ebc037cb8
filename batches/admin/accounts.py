"""Who may come in: users and groups in the admin's skin, and the API tokens they hold."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_http_methods
from knox.models import AuthToken

from batches import operations
from batches.admin import markup
from batches.admin.base import ObservedAdmin, actor_of
from batches.admin.skin import (
    AdminPasswordChangeForm,
    AdminUserCreationForm,
    ModelAdmin,
    UserChangeForm,
)

if TYPE_CHECKING:
    AnyUserAdmin = DjangoUserAdmin[Any]
else:
    AnyUserAdmin = DjangoUserAdmin

import_module("knox.admin")  # registers itself, as Django's two did above
for registered in (User, Group, AuthToken):
    admin.site.unregister(registered)


@admin.register(User)
class UserAdmin(AnyUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = AdminUserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_active", "is_staff", "group_names", "last_login")

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    @admin.display(description="Groups")
    def group_names(self, user: User) -> str:
        return ", ".join(group.name for group in user.groups.all()) or markup.NOTHING


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    pass


@admin.register(AuthToken)
class TokenAdmin(ObservedAdmin):
    """Tokens by the first characters of each: neither the token nor its digest is ever shown.

    They are made by ``manage.py token``. Users see and revoke their own; whoever may delete tokens
    sees everybody's.
    """

    list_display = ("beginning", "holder", "created_at", "expires", "revoke")
    actions = None

    def has_module_permission(self, request: HttpRequest) -> bool:
        return True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        tokens = super().get_queryset(request).select_related("user").order_by("-created")
        everybody = request.user.has_perm("knox.delete_authtoken")
        return tokens if everybody else tokens.filter(user=request.user.pk)

    def get_urls(self) -> list[URLPattern]:
        route = path(
            "<slug:token_key>/revoke/",
            self.admin_site.admin_view(self.revoke_view),
            name="knox_authtoken_revoke",
        )
        return [route, *super().get_urls()]

    @method_decorator(require_http_methods(["GET", "POST"]))
    def revoke_view(self, request: HttpRequest, token_key: str) -> HttpResponse:
        token = self.get_queryset(request).filter(token_key=token_key).first()
        if token is None:
            raise Http404("There is no such token that you may revoke.")
        listed = reverse("admin:knox_authtoken_changelist")
        if request.method == "POST":
            operations.revoke_token(token, by=actor_of(request))
            told = f"Revoked the token {token_key[:8]}… of {token.user.get_username()}."
            self.message_user(request, told, messages.SUCCESS)
            return HttpResponseRedirect(listed)
        return self.render(
            request,
            "console/confirm.html",
            {
                "title": "Revoke token?",
                "label": "Revoke token",
                "warning": "Programs that use this token are refused from now on.",
                "rows": [f"{token_key[:8]}… of {token.user.get_username()}"],
                "back": listed,
            },
        )

    @admin.display(description="Token begins with")
    def beginning(self, token: Any) -> SafeString:
        return format_html("<code>{}…</code>", token.token_key[:8])

    @admin.display(description="User")
    def holder(self, token: Any) -> SafeString:
        return markup.clipped(token.user.get_username(), 40)

    @admin.display(description="Created")
    def created_at(self, token: Any) -> SafeString | str:
        return markup.moment(token.created)

    @admin.display(description="Expires")
    def expires(self, token: Any) -> SafeString | str:
        return markup.moment(token.expiry) if token.expiry else "never"

    @admin.display(description="")
    def revoke(self, token: Any) -> SafeString:
        return format_html(
            '<a class="oc-link" href="{}">Revoke</a>',
            reverse("admin:knox_authtoken_revoke", args=[token.token_key]),
        )

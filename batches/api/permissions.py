"""Who may do what: Django's model permissions, named by each view for each of its actions."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request


class ModelPermissions(BasePermission):
    """``view.permissions`` maps an action (of a plain view: a method) to a codename of this app.

    Reading asks for a permission too, and what a view does not name is refused. A method the view
    does not have is let through for those who may use the view at all, to be answered with 405.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        user = request.user
        if not user.is_authenticated:
            return False
        codenames: dict[str, str] = view.permissions
        action = getattr(view, "action", None) or (request.method or "").lower()
        if action == "head":
            action = "get"
        if action in codenames:
            return user.has_perm(f"batches.{codenames[action]}")
        unserved = action in {"options", "metadata"} or not hasattr(view, action)
        return unserved and any(
            user.has_perm(f"batches.{codename}") for codename in codenames.values()
        )

"""The tokens of programs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from knox.models import AuthToken

from batches import audit
from batches.audit import Actor


def make_token(user: User, *, lifetime: timedelta, by: Actor | None = None) -> tuple[Any, str]:
    """An API token for a user: what is stored of it, and the token itself, which is not."""
    with transaction.atomic():
        made, token = AuthToken.objects.create(user=user, expiry=lifetime)
        audit.record(by, user, f"Made the API token {made.token_key[:8]}…")
    return made, token


def revoke_token(token: Any, *, by: Actor | None = None) -> None:
    """Refuse programs that use a token from now on."""
    with transaction.atomic():
        audit.record(by, token.user, f"Revoked the API token {token.token_key[:8]}…")
        token.delete()

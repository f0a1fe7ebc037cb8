"""``Authorization: Token …`` with a hashed, expiring token."""

from __future__ import annotations

import re
from typing import Any

from knox.auth import TokenAuthentication as KnoxAuthentication
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

PRINTABLE = re.compile(rb"[\x20-\x7e]*\Z")


class TokenAuthentication(BaseAuthentication):
    """Knox, which looks up whatever bytes it is given: not all of them can be asked for."""

    def __init__(self) -> None:
        self._knox = KnoxAuthentication()

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        if not PRINTABLE.match(get_authorization_header(request)):
            raise AuthenticationFailed("Invalid token.")
        found: tuple[Any, Any] | None = self._knox.authenticate(request)
        return found

    def authenticate_header(self, request: Request) -> str:
        return str(self._knox.authenticate_header(request))

"""Addresses below ours that mean nothing."""

from __future__ import annotations

from typing import Any, NoReturn

from django.http import Http404, HttpRequest
from rest_framework.permissions import IsAuthenticated
from rest_framework.views import APIView


class NothingHere(APIView):
    """A problem like any other, where Django would answer with a page or a redirect."""

    permission_classes = [IsAuthenticated]

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> NoReturn:
        raise Http404

    options = http_method_not_allowed

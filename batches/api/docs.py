"""The OpenAPI document, and a page to read and try it on."""

from __future__ import annotations

from typing import Any, ClassVar

import yaml
from django.contrib.auth.views import redirect_to_login
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from rest_framework.exceptions import NotAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from batches.api.endpoint import Endpoint
from batches.api.renderers import Streamed
from batches.api.schema import document


class OpenApiJson(JSONRenderer):
    media_type = "application/vnd.oai.openapi+json"
    format = "openapi"


class OpenApiYaml(Streamed):
    media_type = "application/vnd.oai.openapi"
    format = "yaml"


class Page(Streamed):
    media_type = "text/html"
    format = "html"


class Document(Endpoint):
    """OpenAPI 3.1 as JSON, or as YAML with ``?format=yaml``."""

    permissions: ClassVar[dict[str, str]] = {"get": "view_batch"}
    pagination_class = None
    renderer_classes = [JSONRenderer, OpenApiJson, OpenApiYaml]

    def get(self, request: Request) -> HttpResponse | Response:
        if request.accepted_renderer.format != OpenApiYaml.format:
            return Response(document())
        text = yaml.safe_dump(document(), sort_keys=False, allow_unicode=True)
        return HttpResponse(text, content_type=f"{OpenApiYaml.media_type}; charset=utf-8")


class Docs(Endpoint):
    """Swagger UI, out of this installation's own static files."""

    permissions: ClassVar[dict[str, str]] = {"get": "view_batch"}
    pagination_class = None
    renderer_classes = [Page]

    def handle_exception(self, exc: Exception) -> Any:
        """A person is asked to log in; a program is told as everywhere."""
        if isinstance(exc, NotAuthenticated) and "text/html" in self.request.headers.get(
            "Accept", ""
        ):
            return redirect_to_login(self.request.get_full_path(), reverse("admin:login"))
        return super().handle_exception(exc)

    def get(self, request: Request) -> Any:
        return render(request, "console/docs.html")

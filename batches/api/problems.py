"""Every answer of 400 or above is a problem document (RFC 9457), and says no more than it must."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import (
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.db import OperationalError
from django.http import Http404, UnreadablePostError
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from batches.operations import Conflict, KeyReused
from batches.submission import FieldError, InvalidSubmission

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MOST_ERRORS = 100
LONGEST_TEXT = 500
BODY = "body"
"""Named as the field where the body as a whole is wrong."""


class LengthRequired(exceptions.APIException):
    """A chunked body: Django reads only as many bytes as were announced."""

    status_code = HTTPStatus.LENGTH_REQUIRED
    default_detail = "Send the body with a Content-Length header."


@dataclass(frozen=True, slots=True)
class Problem:
    status: HTTPStatus
    detail: str
    errors: list[FieldError] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def document(self, instance: str) -> dict[str, Any]:
        """The members of RFC 9457; ``errors`` is ours. ``about:blank``: the status says it all."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": printable(self.detail),
            "instance": instance,
        }
        if self.errors:
            document["errors"] = [
                {"field": printable(error.field), "message": printable(error.message)}
                for error in self.errors[:MOST_ERRORS]
            ]
        return document


TOO_LARGE = (
    "The body has more than {most:,} bytes. Split it, or have MAX_BODY_BYTES raised where the "
    "console runs."
)
_PLAIN: tuple[tuple[type[Exception], HTTPStatus, str], ...] = (
    (Conflict, HTTPStatus.CONFLICT, ""),
    (KeyReused, HTTPStatus.UNPROCESSABLE_ENTITY, ""),
    (Http404, HTTPStatus.NOT_FOUND, ""),
    (PermissionDenied, HTTPStatus.FORBIDDEN, ""),
    (RequestDataTooBig, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LARGE),
    (SuspiciousOperation, HTTPStatus.BAD_REQUEST, "The request could not be read."),
    (UnreadablePostError, HTTPStatus.BAD_REQUEST, "The body ended early."),
    (OperationalError, HTTPStatus.SERVICE_UNAVAILABLE, "The database did not answer; try again."),
)
"""The first that fits decides; without a text of ours, the exception's own is shown."""
_PLAIN_NAME = re.compile(r"[\w$-]+")


def handle(exc: Exception, context: dict[str, Any]) -> Response:
    """The answer to any exception of a view: DRF's ``EXCEPTION_HANDLER``."""
    problem = _problem_of(exc, context["view"])
    chosen = isinstance(exc, exceptions.APIException)  # by the view, as its answer
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not chosen:
        logger.error("%s in %s", type(exc).__name__, context["view"], exc_info=exc)
    set_rollback()
    request = context["request"]
    renderer = getattr(request, "accepted_renderer", None)
    return Response(
        problem.document(request.path),
        status=problem.status,
        headers=problem.headers,
        # A person's browser gets the page of the browsable API, with the problem in it.
        content_type=None if renderer is not None and renderer.format == "api" else MEDIA_TYPE,
    )


def _problem_of(exc: Exception, view: Any) -> Problem:
    match exc:
        case InvalidSubmission():
            return _invalid(exc.errors)
        case exceptions.ValidationError() | exceptions.ParseError():
            return _invalid(list(field_errors(exc.detail)))
        case exceptions.UnsupportedMediaType():
            return _unsupported(exc, [parser.media_type for parser in view.parser_classes])
        case exceptions.APIException():
            return Problem(HTTPStatus(exc.status_code), str(exc.detail), headers=_headers(exc))
    for kind, status, text in _PLAIN:
        if isinstance(exc, kind):
            told = text.format(most=settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
            return Problem(status, told or str(exc) or status.description)
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "This is a fault of ours, and was logged.")


def _invalid(errors: list[FieldError]) -> Problem:
    first = f"{errors[0].field}: {errors[0].message}"
    match len(errors) - 1:
        case 0:
            more = ""
        case 1:
            more = " (and 1 more error)"
        case others:
            more = f" (and {others} more errors)"
    return Problem(HTTPStatus.BAD_REQUEST, first + more, errors)


def _unsupported(exc: exceptions.UnsupportedMediaType, taken: list[str]) -> Problem:
    """Says which types are right, and so does ``Accept`` (RFC 9110, section 15.5.16)."""
    return Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"The Content-Type must be {' or '.join(taken)}. {exc.detail}",
        headers={"Accept": ", ".join(taken)},
    )


def _headers(exc: exceptions.APIException) -> dict[str, str]:
    headers = {}
    # Both are set by DRF on the exceptions that need them.
    if challenge := getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(exc, "wait", None):
        headers["Retry-After"] = str(int(wait))
    return headers


def field_errors(detail: Any, path: str = "") -> Iterator[FieldError]:
    """DRF's nested errors as paths: ``{"targets": {3: {"path": […]}}}`` is ``targets[3].path``.

    A name that could be taken for a path is put as ``["a.b"]``.
    """
    if isinstance(detail, dict):
        for key, value in detail.items():
            yield from field_errors(value, _below(path, key))
    elif isinstance(detail, (list, tuple)):
        yield from _of_list(detail, path)
    else:
        yield FieldError(path or BODY, str(detail))


def _of_list(details: Iterable[Any], path: str) -> Iterator[FieldError]:
    for index, each in enumerate(details):
        if isinstance(each, (dict, list)):
            if each:
                yield from field_errors(each, _below(path, index))
        else:
            yield FieldError(path or BODY, str(each))


def _below(path: str, key: str | int) -> str:
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not _PLAIN_NAME.fullmatch(key):
        return f"{path}[{json.dumps(key)}]"
    return f"{path}.{key}" if path else key


def printable(text: str) -> str:
    """What a client sent may come back in a message: encodable, without NUL, and not too long."""
    if len(text) > LONGEST_TEXT:
        text = text[:LONGEST_TEXT] + "…"
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()

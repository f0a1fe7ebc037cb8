"""What the OpenAPI document cannot read from a class: our fields, logins, problems."""

from __future__ import annotations

import re
from typing import Any

from django.core.validators import RegexValidator
from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerFieldExtension,
)

from batches.api import story
from batches.api.answers import BatchAnswer, TaskAnswer
from batches.api.described import ResultLine
from batches.api.fields import Text
from batches.api.fleet import WorkspaceAnswer
from batches.api.on_celery import CeleryTaskAnswer
from batches.api.servers import NewServer, ServerAnswer
from batches.api.submissions import Operation
from batches.states import BatchStatus, TaskState
from batches.variants import MOST_VARIANTS

Schema = dict[str, Any]

MEANINGS: dict[int, str] = {
    200: "Done.",
    201: "Made.",
    202: "Taken on; it happens as workers get to it.",
    204: "Done; there is nothing to say.",
    400: "The body or a parameter is wrong; `errors` names the fields.",
    401: "There is no valid login.",
    403: "Your groups do not allow it.",
    404: "It does not exist, or you may not see it.",
    406: "No format that is accepted is served.",
    411: "The body came without a length.",
    413: "The body is too large.",
    415: "The body is of no type that is read here: `Accept` names those that are.",
    503: "The database did not answer; try again.",
}


_TEXT = {"type": "string"}
PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457.",
    "examples": [story.PROBLEM],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "instance": _TEXT,
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "field": _TEXT
                    | {"description": "A path into the body, as `targets[3].path`; or `body`."},
                    "message": _TEXT,
                },
                "required": ["field", "message"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "instance"],
}

REQUEST_RESULT: Schema = {
    "type": "object",
    "description": "A line with `?format=openai`.",
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "custom_id": _TEXT,
        "response": {
            "type": ["object", "null"],
            "properties": {
                "status_code": {"type": "integer", "enum": [200, 422]},
                "request_id": {"type": "string", "format": "uuid"},
                "body": {"description": "The result of the task."},
            },
            "required": ["status_code", "request_id", "body"],
        },
        "error": {
            "type": ["object", "null"],
            "properties": {"code": _TEXT, "message": _TEXT},
            "required": ["code", "message"],
        },
        "variant": _TEXT,
    },
    "required": ["id", "custom_id", "response", "error"],
    "additionalProperties": False,
}
"""What ``exports.request_results`` writes."""

TOO_LONG: Schema = {
    "description": "The address is longer than 4,094 bytes. The web server says so, in HTML.",
    "content": {"text/html": {"schema": {"type": "string"}}},
}
"""gunicorn's ``limit_request_line``, which is checked before the console is asked."""

STORABLE = r"^[^\x00]*$"
"""What ``storable`` lets through; half a surrogate pair is no text in JSON Schema either."""


def text(field: Text) -> Schema:
    """The limits of a text. A blank one is in the pattern of a field that may be blank."""
    own = [re.compile(v.regex) for v in field.validators if isinstance(v, RegexValidator)]
    limits: Schema = {"pattern": ecma(own[0].pattern) if own else STORABLE}
    if not field.allow_blank:
        limits["minLength"] = 1
    if field.max_length is not None:
        limits["maxLength"] = field.max_length
    return limits


def ecma(pattern: str) -> str:
    """A pattern of Python in the dialect of JSON Schema, which knows other anchors."""
    return pattern.replace(r"\A", "^").replace(r"\Z", "$")


_NUMBER = {"type": ["number", "null"]}
_PROGRESS: Schema = {
    "type": "object",
    "properties": {
        "counts": {
            "type": "object",
            "properties": {state.value: {"type": "integer"} for state in TaskState},
            "required": [state.value for state in TaskState],
        },
        "percentage": {"type": "number"},
        "rate": _NUMBER | {"description": "Tasks a second that ran to an end."},
        "seconds_left": _NUMBER | {"description": "At that rate."},
    },
    "required": ["counts", "percentage", "rate", "seconds_left"],
}
_TEXTS: Schema = {"type": "array", "items": {"type": "string"}}
_TEXT_BY_NAME: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_ADDRESS = {"type": "string", "format": "uri"}

SPECIAL: dict[tuple[type, str], Schema] = {
    (BatchAnswer, "owner"): {"type": ["string", "null"]},
    (BatchAnswer, "workspace"): {"type": ["string", "null"]},
    (BatchAnswer, "status"): {"type": "string", "enum": BatchStatus.values},
    (BatchAnswer, "dispatch"): {
        "type": ["string", "null"],
        "enum": ["sent", "pending", None],
        "description": "On Celery: has a worker been told of any of its tasks yet?",
    },
    (BatchAnswer, "progress"): _PROGRESS,
    (BatchAnswer, "links"): {
        "type": "object",
        "properties": dict.fromkeys(("self", "tasks", "results"), _ADDRESS),
        "required": ["self", "tasks", "results"],
    },
    (Operation, "arguments"): {"type": "object"},
    (TaskAnswer, "result"): {},
    (CeleryTaskAnswer, "result"): {},
    (ResultLine, "result"): {},
    (WorkspaceAnswer, "groups"): _TEXTS,
    (ServerAnswer, "groups"): _TEXTS,
    (ServerAnswer, "command"): _TEXTS,
    (ServerAnswer, "folders"): _TEXTS,
    (ServerAnswer, "tools"): {"type": ["array", "null"], "items": {"type": "string"}},
    (ServerAnswer, "secrets"): _TEXT_BY_NAME,
}
"""Serializer and field → the schema, where the field's class does not say it."""


TOGETHER: dict[type, Schema] = {
    NewServer: {
        "oneOf": [
            {
                "required": ["command"],
                "properties": {"command": {"minItems": 1}, "url": {"maxLength": 0}},
            },
            {
                "required": ["url"],
                "properties": {"url": {"minLength": 1}, "command": {"maxItems": 0}},
            },
        ]
    },
}
"""Serializer → what its fields must be in relation to each other."""

LINES: Schema = {
    "type": "string",
    "description": "The options on the first line, then one item a line: JSON objects. An item may "
    "also be a request of an OpenAI batch file, `custom_id`, `method`, `url` and `body`, with the "
    "item in its body; where the first line is one, there are no options.",
}


class TokenScheme(OpenApiAuthenticationExtension):
    target_class = "batches.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> Schema:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Token ` and a token, which `manage.py token USERNAME` makes.",
        }


class AnyJsonSchema(OpenApiSerializerFieldExtension):
    target_class = "batches.api.fields.AnyJson"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> Schema:
        return {}


class ItemsSchema(OpenApiSerializerFieldExtension):
    target_class = "batches.api.submissions.Items"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> Schema:
        item = auto_schema.resolve_serializer(self.target.shape, direction).ref
        return {"type": "array", "minItems": 1, "items": item}


class VariantsSchema(OpenApiSerializerFieldExtension):
    target_class = "batches.api.submissions.Variants"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> Schema:
        properties: Schema = {}
        for name, field in {**self.target.own(), **self.target.options()}.items():
            properties[name] = auto_schema._map_serializer_field(field, direction)  # noqa: SLF001
            auto_schema._insert_field_validators(field, properties[name])  # noqa: SLF001
        one: Schema = {"type": "object", "properties": properties, "required": ["name"]}
        if not self.target.open:
            one["additionalProperties"] = False
        return {"type": "array", "minItems": 1, "maxItems": MOST_VARIANTS, "items": one}

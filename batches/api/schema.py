"""The OpenAPI document, made from the views: their serializers, filters, pages and permissions."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import django_filters as df
from drf_spectacular.generators import EndpointEnumerator, SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from rest_framework import serializers

from batches import registry
from batches.api import examples, schema_parts
from batches.api.batches import Submissions
from batches.api.described import CALLS, FIELDS, Call
from batches.api.endpoint import Endpoint
from batches.api.fields import Listing, Text
from batches.api.filters import TrueOrFalseFilter, WholeNumberFilter
from batches.api.fleet import Variables
from batches.api.problems import MEDIA_TYPE
from batches.api.renderers import Csv, JsonLines, RequestResults
from batches.api.submissions import ItemFields, SubmissionFields

Schema = dict[str, Any]


class Addresses(EndpointEnumerator):
    def get_path_from_regex(self, path_regex: str) -> str:
        """Without the slash at the end, which is optional."""
        path: str = super().get_path_from_regex(path_regex)
        return path.rstrip("/")


class Generator(SchemaGenerator):
    endpoint_inspector_cls = Addresses


@cache
def document() -> Schema:
    """The whole of it; views and settings do not change while a process lives."""
    made: Schema = Generator(urlconf="batches.api.urls").get_schema(request=None, public=True)
    return made


class ConsoleSchema(AutoSchema):
    """One call. What ``described`` does not name is described by its view's own words."""

    @property
    def _action(self) -> str:
        return getattr(self.view, "action", None) or self.method.lower()

    @property
    def _name(self) -> str:
        """As in ``described`` and ``examples``."""
        return f"{type(self.view).__name__}.{self._action}"

    @property
    def call(self) -> Call:
        if described := CALLS.get(self._name):
            return described
        words = getattr(self.view, self._action).__doc__ or type(self.view).__doc__ or self._name
        is_json = "application/json" in self.map_renderers("media_type")
        return Call(words.strip().splitlines()[0], {"type": "object" if is_json else "string"})

    def get_summary(self) -> str:
        return self.call.summary.format(kind=getattr(self.view, "kind_name", ""))

    def get_description(self) -> str:
        return str(getattr(self.view, self._action).__doc__ or "").strip()

    def get_tags(self) -> list[str]:
        name = type(self.view).__name__
        return [name if name in {"Submissions", "Batches", "Tasks"} else "Console"]

    def get_operation_id(self) -> str:
        kind = getattr(self.view, "kind_name", "")
        return "_".join(filter(None, (type(self.view).__name__.lower(), self._action, kind)))

    # -- parameters -------------------------------------------------------------------------------

    def _is_list_view(self, serializer: Any = None) -> bool:
        if serializer is None:
            return self.call.many
        return isinstance(serializer, serializers.ListSerializer)

    def _resolve_path_parameters(self, variables: list[str]) -> list[Schema]:
        return [
            {"name": name, "in": "path", "required": True, "schema": self._path_schema(name)}
            for name in variables
        ]

    def _path_schema(self, name: str) -> Schema:
        if name in {"id", "pk"}:
            return {"type": "string", "format": "uuid"}
        pattern = re.search(rf"\(\?P<{name}>(.*?)\)(?=/|$)", self.path_regex)
        return {"type": "string"} | ({"pattern": f"^{pattern[1]}$"} if pattern else {})

    def _get_filter_parameters(self) -> list[Schema]:
        filterset = getattr(self.view, "filterset_class", None)
        if filterset is None:
            return []
        return [
            {
                "name": name,
                "in": "query",
                "description": str(each.label or name),
                # A form sends fields that are empty, and an empty one filters nothing.
                "allowEmptyValue": not isinstance(each, df.MultipleChoiceFilter),
                "schema": filter_schema(each),
            }
            for name, each in filterset.base_filters.items()
        ]

    def _get_pagination_parameters(self) -> list[Schema]:
        paginator = self._get_paginator()
        if not (paginator and (self.call.many or self.call.paged)):
            return []
        size = {"type": "integer", "minimum": 1, "maximum": paginator.max_page_size}
        return [
            {
                "name": paginator.cursor_query_param,
                "in": "query",
                "description": "Of the address that `next` or `previous` gave.",
                "schema": {"type": "string"},
            },
            {
                "name": paginator.page_size_query_param,
                "in": "query",
                "schema": size | {"default": paginator.page_size},
            },
        ]

    def _get_format_parameters(self) -> list[Schema]:
        return [each | {"allowEmptyValue": True} for each in super()._get_format_parameters()]

    def _get_parameters(self) -> list[Schema]:
        parameters: list[Schema] = super()._get_parameters()
        return parameters + [
            {"name": name, "in": "header"} | asked for name, asked in self.call.asks.items()
        ]

    # -- bodies and answers -----------------------------------------------------------------------

    def _get_request_body(self, direction: Any = "request") -> Schema | None:
        body: Schema | None = super()._get_request_body(direction)
        if body is None:
            return None
        if not isinstance(self.view, Submissions):
            body["content"]["application/json"]["example"] = examples.BODIES.get(self._name, {})
            return body
        serializer: Any = self.view.get_serializer_class()()
        bodies = examples.submissions(serializer)
        body["content"]["application/json"]["examples"] = {
            name: {"value": value} for name, value in bodies.items()
        }
        body["content"][JsonLines.media_type] = {
            "schema": schema_parts.LINES,
            "example": examples.lines(bodies["More"], registry.kind(self.view.kind_name).items),
        }
        return body

    def get_response_serializers(self) -> Any:
        call = self.call
        if isinstance(call.answer, type):
            answer: Any = call.answer(many=True) if call.many else call.answer()
        else:
            answer = call.answer
        return {
            (str(call.status), call.media_type) if call.media_type else str(call.status): answer
        }

    def _get_response_bodies(self, direction: Any = "response") -> Schema:
        bodies: Schema = super()._get_response_bodies(direction)
        answer = bodies[str(self.call.status)]
        answer["description"] = schema_parts.MEANINGS.get(self.call.status, "Done.")
        if self.call.tells:
            answer["headers"] = {
                name: {"description": text, "schema": {"type": "string"}}
                for name, text in self.call.tells.items()
            }
        streamed = answer.get("content", {})
        if JsonLines.media_type in streamed:
            lines = streamed[JsonLines.media_type]
            if RequestResults in self.view.renderer_classes:
                lines["schema"] = {"anyOf": [lines["schema"], schema_parts.REQUEST_RESULT]}
            lines["schema"] |= {"description": "One of these a line."}
        if Csv.media_type in streamed:
            streamed[Csv.media_type]["schema"] = {"type": "string"}
        for media_type, content in streamed.items():
            content["example"] = examples.answer(self.view, self._name, media_type)
        problem = ResolvedComponent(
            "Problem", ResolvedComponent.SCHEMA, schema_parts.PROBLEM, object="Problem"
        )
        self.registry.register_on_missing(problem)
        for status, meaning in self._problems():
            bodies[str(status)] = {
                "description": meaning,
                "content": {MEDIA_TYPE: {"schema": problem.ref}},
            }
        bodies["414"] = schema_parts.TOO_LONG
        return bodies

    def _problems(self) -> list[tuple[int, str]]:
        """Statuses of 400 and above that this call can give."""
        statuses: set[int] = set()
        if "*/*" not in self.map_renderers("media_type"):
            statuses.add(406)
        if self.view.authentication_classes:
            statuses |= {401, 403, 503}
        if isinstance(self.view, Endpoint):
            statuses |= {400}
            statuses |= {411, 413, 415} if self.method in {"POST", "PATCH", "PUT"} else set()
        if "{" in self.path or len(self.map_renderers("format")) > 1:
            statuses.add(404)
        meanings = schema_parts.MEANINGS | self.call.problems
        statuses |= self.call.problems.keys()
        return [(status, meanings[status]) for status in sorted(statuses)]

    # -- components -------------------------------------------------------------------------------

    def get_serializer_name(self, serializer: Any, direction: Any) -> str:
        return type(serializer).__name__.removesuffix("Answer")

    def _map_serializer_field(
        self,
        field: Any,
        direction: Any,
        bypass_extensions: bool = False,  # noqa: FBT001, FBT002
    ) -> Schema:
        special = schema_parts.SPECIAL.get((type(field.parent), field.field_name))
        if special is not None:
            return dict(special)
        schema: Schema = super()._map_serializer_field(field, direction, bypass_extensions)
        schema.pop("x-spec-enum-id", None)  # for a step of drf-spectacular that is not taken
        return schema

    def _insert_field_validators(self, field: Any, schema: Schema) -> None:
        if isinstance(field, Text):
            schema.update(schema_parts.text(field))
            return
        super()._insert_field_validators(field, schema)
        if isinstance(field, Listing) and not field.allow_empty:
            schema["minItems"] = 1
        if isinstance(field, Variables):
            schema["propertyNames"] = {"pattern": schema_parts.ecma(field.names.pattern)}

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> Schema:
        schema: Schema = super()._map_basic_serializer(serializer, direction)
        schema.pop("description", None)
        properties: Schema = schema.get("properties", {})
        if direction == "response":
            for each in properties.values():
                each.pop("readOnly", None)
            return schema | {"required": sorted(properties)}
        if isinstance(serializer, (SubmissionFields, ItemFields)):
            for name in properties.keys() & FIELDS.keys():
                properties[name]["description"] = FIELDS[name]
        schema |= schema_parts.TOGETHER.get(type(serializer), {})
        # An item of a kind without a serializer of its own says what its processor reads.
        return schema if type(serializer) is ItemFields else schema | CLOSED


CLOSED: Schema = {"additionalProperties": False}


FILTERS: dict[type, Schema] = {
    df.UUIDFilter: {"type": "string", "format": "uuid"},
    df.IsoDateTimeFilter: {"type": "string", "format": "date-time"},
    TrueOrFalseFilter: {"type": "boolean"},
    WholeNumberFilter: {"type": "integer"},
}
"""What a filter takes; one that is not here takes any text."""


def filter_schema(each: Any) -> Schema:
    """Several values are given by repeating the parameter."""
    if isinstance(each, df.MultipleChoiceFilter):
        return {"type": "array", "items": _choices(each)}
    if isinstance(each, df.ChoiceFilter):
        return _choices(each)
    fitting = (schema for kind, schema in FILTERS.items() if isinstance(each, kind))
    return next(fitting, {"type": "string", "pattern": schema_parts.STORABLE})


def _choices(each: Any) -> Schema:
    choices = each.extra["choices"]
    return {
        "type": "string",
        "enum": [str(value) for value, _ in (choices() if callable(choices) else choices)],
    }

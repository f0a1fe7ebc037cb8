"""The language models that agents work with: how each is reached."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.validators import RegexValidator
from django.db.models import QuerySet
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.serializers import BaseSerializer

from batches import operations
from batches.api.changes import Nothing
from batches.api.endpoint import UUID_PATTERN, EndpointSet
from batches.api.fields import Boolean, Choice, Integer, Number, StrictSerializer, Text
from batches.api.fleet import ByName
from batches.model_profiles import FIELDS, KEEP_ALIVE, NO_TIME
from batches.models import ModelProfile
from batches.models.profiles import MODEL_NAME
from batches.states import ModelProtocol
from batches.supervision.model_checks import check_model

ROOT = RegexValidator(
    r"\A(https?://[^\x00]+)?\Z", "Must be an address such as http://127.0.0.1:11434."
)
DURATION = RegexValidator(KEEP_ALIVE, NO_TIME)
REFERENCE = RegexValidator(
    r"\A((env:[^\x00]|file:/)[^\x00]*)?\Z", "Must be env:NAME or file:/PATH."
)


class ProfileAnswer(serializers.ModelSerializer[ModelProfile]):
    class Meta:
        model = ModelProfile
        fields = ["id", "name", *FIELDS, "created_at"]


def whole(name: str, **more: Any) -> Integer:
    """A number within the bounds of the column ``name``."""
    column: Any = ModelProfile._meta.get_field(name)  # noqa: SLF001 - Django's public API
    bounds = {bound.code: bound.limit_value for bound in column.validators}
    return Integer(required=False, **more, **bounds)


class ProfileChange(StrictSerializer):
    """A limit of null is none; an empty text stands for what is usual."""

    protocol = Choice(ModelProtocol.values, required=False)
    endpoint = Text(max_length=2000, allow_blank=True, required=False, validators=[ROOT])
    model = Text(max_length=200, allow_blank=True, required=False)
    num_ctx = whole("num_ctx", allow_null=True)
    temperature = Number(min_value=0, max_value=2, allow_null=True, required=False)
    keep_alive = Text(max_length=20, allow_blank=True, required=False, validators=[DURATION])
    secret = Text(max_length=1000, allow_blank=True, required=False, validators=[REFERENCE])
    parallel = whole("parallel", allow_null=True)
    max_requests = whole("max_requests")
    max_tool_calls = whole("max_tool_calls")
    max_tokens = whole("max_tokens")
    max_files = whole("max_files")
    max_bytes = whole("max_bytes")
    request_timeout = whole("request_timeout")
    enabled = Boolean(required=False)


class NewProfile(ProfileChange):
    name = Text(max_length=100, validators=[MODEL_NAME])


class InMemory(serializers.Serializer[Any]):
    name = serializers.CharField()
    size = serializers.IntegerField(allow_null=True, help_text="Bytes.")
    num_ctx = serializers.IntegerField(allow_null=True)
    until = serializers.CharField(allow_blank=True, help_text="When it is unloaded.")


class ModelCheckAnswer(serializers.Serializer[Any]):
    ok = serializers.BooleanField()
    reason = serializers.CharField(allow_blank=True, help_text="Why not, and what to do.")
    seconds = serializers.FloatField()
    endpoint = serializers.CharField(allow_blank=True)
    model = serializers.CharField(allow_blank=True, help_text="Its name there.")
    version = serializers.CharField(allow_null=True, help_text="Of the server.")
    loaded = serializers.BooleanField(allow_null=True)
    running = InMemory(many=True, help_text="What the server has in memory.")


class Models(EndpointSet):
    """Models that are reached in a way of their own; any other name is one of Ollama's."""

    lookup_value_regex = UUID_PATTERN
    pagination_class = ByName
    queryset: QuerySet[ModelProfile] = ModelProfile.objects.all()
    permissions: ClassVar[dict[str, str]] = {
        "list": "view_modelprofile",
        "retrieve": "view_modelprofile",
        "create": "add_modelprofile",
        "partial_update": "change_modelprofile",
        "destroy": "delete_modelprofile",
        "check": "change_modelprofile",
    }
    serializers: ClassVar[dict[str, type[BaseSerializer[Any]]]] = {
        "list": ProfileAnswer,
        "retrieve": ProfileAnswer,
        "create": NewProfile,
        "partial_update": ProfileChange,
        "destroy": Nothing,
        "check": Nothing,
    }

    def list(self, request: Request) -> Response:
        profiles = self.page(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(profiles, many=True).data)

    def create(self, request: Request) -> Response:
        profile = operations.add_model(**self.read(NewProfile), by=self.actor)
        url = reverse("model-detail", args=[profile.pk], request=request)
        answer = ProfileAnswer(profile).data
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Location": url})

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(ProfileAnswer(self.get_object()).data)

    def partial_update(self, request: Request, pk: str) -> Response:
        profile = self.get_object()
        operations.change_model(profile, **self.read(ProfileChange), by=self.actor)
        return Response(ProfileAnswer(profile).data)

    def destroy(self, request: Request, pk: str) -> Response:
        operations.remove_model(self.get_object(), by=self.actor)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=True, methods=["post"])
    def check(self, request: Request, pk: str) -> Response:
        """As a task on the console's machine would reach it."""
        self.read(Nothing)
        return Response(ModelCheckAnswer(check_model(self.get_object())).data)

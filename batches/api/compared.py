"""What is answered when variants are compared: their figures, and who passed which item."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from batches.states import Failure, TaskState


class Spread(serializers.Serializer[Any]):
    median = serializers.FloatField()
    p90 = serializers.FloatField()


class Tokens(serializers.Serializer[Any]):
    input = serializers.IntegerField()
    output = serializers.IntegerField()


class VariantFigures(serializers.Serializer[Any]):
    """What ``comparison.figures.Figures`` tells."""

    batch = serializers.UUIDField()
    variant = serializers.CharField(allow_blank=True)
    options = serializers.DictField(help_text="Those that the variant has of its own.")
    total = serializers.IntegerField()
    states = serializers.DictField(child=serializers.IntegerField())
    failures = serializers.DictField(child=serializers.IntegerField())
    judged = serializers.IntegerField(
        help_text="Tasks with an answer: those that failed by error, loss or dependency have none."
    )
    passed = serializers.IntegerField(help_text="Of those, the ones that succeeded.")
    pass_rate = serializers.FloatField(allow_null=True)
    interval = serializers.ListField(
        child=serializers.FloatField(), allow_null=True,
        help_text="Of the pass rate: the 95 % interval of Wilson's score.",
    )  # fmt: skip
    seconds = Spread(allow_null=True, help_text="Of the last attempt of each task.")
    loops = Spread(allow_null=True)
    turns = Spread(allow_null=True, help_text="Requests to models of each task.")
    tokens = Tokens(help_text="Of all its tasks together.")
    applied = serializers.IntegerField(help_text="Patches that are in the workspace.")


class Compared(serializers.Serializer[Any]):
    variants = VariantFigures(many=True)


class ComparedTask(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    batch = serializers.UUIDField()
    variant = serializers.CharField(allow_blank=True)
    state = serializers.ChoiceField(TaskState.choices)
    failure = serializers.ChoiceField(Failure.choices, allow_blank=True)
    passed = serializers.BooleanField(allow_null=True)
    seconds = serializers.FloatField(allow_null=True)
    loops = serializers.IntegerField(allow_null=True)
    turns = serializers.IntegerField(allow_null=True)
    tokens = serializers.IntegerField(allow_null=True)
    applied = serializers.CharField(allow_null=True)
    decision = serializers.CharField(allow_null=True)


class ComparedItem(serializers.Serializer[Any]):
    position = serializers.IntegerField()
    custom_id = serializers.CharField()
    tasks = serializers.ListField(
        child=ComparedTask(allow_null=True),
        help_text="In the order of the comparison's `variants`; null where there is none.",
    )

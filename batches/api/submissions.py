"""The shape of a submission's body, kind by kind. Its rules are the processor's and the queue's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from rest_framework import serializers

from agents.contract import JSON
from batches.api.fields import (
    AnyJson,
    Boolean,
    Choice,
    Id,
    Integer,
    Listing,
    Moment,
    StrictSerializer,
    Text,
    storable,
    unknown,
    wrong_type,
)
from batches.lanes import HIGHEST, LOWEST
from batches.states import BackendName, OnFailure
from batches.submission import Item, Submission, Variant
from batches.variants import LONGEST_NAME, MOST_VARIANTS
from batches.vetting import MAX_ATTEMPTS, MOST_PARALLEL

MOST_ERRORS = 100
PATH_LENGTH = 1000
COMMAND_LENGTH = 4000
CONTENT_LENGTH = 1024 * 1024
DESCRIPTION_LENGTH = 20_000
MODEL_LENGTH = 190
MOST_LOOPS = 100


class Timeout(Integer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=settings.MAX_TIMEOUT_SECONDS, **kwargs)


class ItemFields(StrictSerializer):
    """What an item of every kind may say; a kind adds its own."""

    id = Text(max_length=128, required=False)
    priority = Integer(min_value=LOWEST, max_value=HIGHEST, allow_null=True, required=False)
    timeout = Timeout(allow_null=True, required=False)
    depends_on = Listing(child=Text(max_length=128), required=False)


COMMON_ITEM_FIELDS = frozenset(ItemFields().fields)


Fields = Mapping[str, "serializers.Field[Any, Any, Any, Any]"]


def values_of(raw: Any, fields: Fields, others: AnyJson | None, required: Iterable[str]) -> JSON:
    """The fields of an object; ``others`` reads those that are not among ``fields``.

    Raises:
        ValidationError: names each wrong field.
    """
    if not isinstance(raw, dict):
        raise wrong_type("an object", raw)
    values: JSON = {}
    errors: dict[str, Any] = {}
    for name, value in raw.items():
        field = fields.get(name, others)
        if field is None:
            errors[name] = [unknown(fields)]
            continue
        try:
            values[storable(name)] = field.run_validation(value)
        except serializers.ValidationError as wrong:
            errors[name] = wrong.detail
    for name in required:
        if name not in raw:
            errors[name] = ["This field is required."]
    if errors:
        raise serializers.ValidationError(errors)
    return values


class Items(serializers.Field[list[Item], Any, Any, Any]):
    """A list read item by item: a nested serializer for each would take ten times as long.

    ``others`` reads the fields that ``shape`` does not declare; without it they are refused.
    """

    def __init__(
        self, shape: StrictSerializer, *, others: AnyJson | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.shape = shape
        self._others = others
        self._fields: dict[str, serializers.Field[Any, Any, Any, Any]] = dict(shape.fields)
        self._required = {name for name, field in self._fields.items() if field.required}

    def to_internal_value(self, data: Any) -> list[Item]:
        if not isinstance(data, list):
            raise wrong_type("an array", data)
        if not data:
            raise serializers.ValidationError("Must hold at least one item.")
        items: list[Item] = []
        errors: Any = {}
        for index, raw in enumerate(data):
            try:
                items.append(self.item(raw))
            except serializers.ValidationError as wrong:
                errors[index] = wrong.detail
                if len(errors) == MOST_ERRORS:
                    break
        if errors:
            raise serializers.ValidationError(errors)
        return items

    def to_representation(self, value: Any) -> Any:
        return value

    def item(self, raw: Any, more: Fields | None = None) -> Item:
        """One item of the list; ``more`` are fields that it may have besides.

        Raises:
            ValidationError: names each wrong field of it.
        """
        values = values_of(raw, {**self._fields, **(more or {})}, self._others, self._required)
        common = {name: values.pop(name) for name in COMMON_ITEM_FIELDS & values.keys()}
        if "depends_on" in common:
            common["depends_on"] = tuple(common["depends_on"])
        return Item(payload=values, **common)


class Variants(serializers.Field[list[Variant], Any, Any, Any]):
    """The items in several ways, each with a name and with values for options of the kind.

    ``others`` reads fields that the kind does not declare; without it they are refused.
    """

    def __init__(self, *, others: AnyJson | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._others = others

    def own(self) -> Fields:
        """What a variant says of itself."""
        return {
            "name": Text(max_length=LONGEST_NAME),
            "queue": Text(max_length=40, allow_null=True),
        }

    def options(self) -> Fields:
        """The options of the kind by name."""
        shape: Any = self.parent
        return option_fields(shape)

    def to_internal_value(self, data: Any) -> list[Variant]:
        if not isinstance(data, list):
            raise wrong_type("an array", data)
        if not 1 <= len(data) <= MOST_VARIANTS:
            raise serializers.ValidationError(f"Must hold 1 to {MOST_VARIANTS} variants.")
        found: list[Variant] = []
        errors: Any = {}
        fields = {**self.options(), **self.own()}
        for index, raw in enumerate(data):
            try:
                found.append(self._variant(raw, fields))
            except serializers.ValidationError as wrong:
                errors[index] = wrong.detail
        if errors:
            raise serializers.ValidationError(errors)
        return found

    def _variant(self, raw: Any, fields: Fields) -> Variant:
        values = values_of(raw, fields, self._others, {"name"})
        return Variant(values.pop("name"), queue=values.pop("queue", None), options=values)

    @property
    def open(self) -> bool:
        """Whether it takes fields that the kind does not declare."""
        return self._others is not None

    def to_representation(self, value: Any) -> Any:
        return value


class SubmissionFields(StrictSerializer):
    """What a submission of every kind may say; a kind adds its own, and its items."""

    name = Text(max_length=200, allow_blank=True, required=False)
    backend = Choice(["auto", *BackendName.values], required=False)
    workspace = Text(max_length=64, allow_null=True, required=False)
    priority = Integer(min_value=LOWEST, max_value=HIGHEST, allow_null=True, required=False)
    queue = Text(max_length=40, allow_null=True, required=False)
    parallel = Integer(min_value=1, max_value=MOST_PARALLEL, allow_null=True, required=False)
    max_attempts = Integer(min_value=1, max_value=MAX_ATTEMPTS, required=False)
    timeout = Timeout(allow_null=True, required=False)
    run_at = Moment(allow_null=True, required=False)
    deadline = Moment(allow_null=True, required=False)
    after = Listing(child=Id(), max_length=1000, required=False)
    labels = Listing(child=Text(max_length=100), max_length=100, required=False)
    on_failure = Choice(OnFailure.choices, required=False)
    variants = Variants(required=False)
    resume = Id(allow_null=True, required=False)


COMMON_FIELDS = frozenset(SubmissionFields().fields)


class AgentTask(ItemFields):
    description = Text(max_length=DESCRIPTION_LENGTH)


class AgentSubmission(SubmissionFields):
    coder_model = Text(max_length=MODEL_LENGTH, required=False)
    reviewer_model = Text(max_length=MODEL_LENGTH, allow_null=True, required=False)
    check_command = Text(max_length=COMMAND_LENGTH, allow_null=True, required=False)
    max_loops = Integer(min_value=1, max_value=MOST_LOOPS, required=False)
    apply_changes = Boolean(required=False)
    tasks = Items(AgentTask(), initial=[{"description": "Make the tests of src/cart.py pass."}])


class ValidationTarget(ItemFields):
    path = Text(max_length=PATH_LENGTH)


class ValidationSubmission(SubmissionFields):
    checks = Listing(child=Text(max_length=40), allow_empty=False, max_length=100, required=False)
    check_command = Text(max_length=COMMAND_LENGTH, required=False)
    targets = Items(ValidationTarget(), initial=[{"path": "src"}])


class TestModule(ItemFields):
    path = Text(max_length=PATH_LENGTH)


class TestSubmission(SubmissionFields):
    test_command = Text(max_length=COMMAND_LENGTH, required=False)
    modules = Items(TestModule(), initial=[{"path": "tests/test_example.py"}])


class Operation(ItemFields):
    type = Choice(
        ["tool", "list_tools", "read_resource", "read", "write", "list", "command"], required=False
    )
    server = Text(max_length=64, required=False)
    tool = Text(max_length=128, required=False)
    arguments = AnyJson(required=False)
    uri = Text(max_length=4000, required=False)
    path = Text(max_length=PATH_LENGTH, required=False)
    content = Text(max_length=CONTENT_LENGTH, allow_blank=True, required=False)
    command = Text(max_length=COMMAND_LENGTH, required=False)


class OperationSubmission(SubmissionFields):
    operations = Items(Operation(), initial=[{"type": "list", "path": "."}])


class AnySubmission(SubmissionFields):
    """For a kind without a serializer of its own: the fields of an item are the processor's."""

    variants = Variants(others=AnyJson(allow_null=True), required=False)
    items = Items(ItemFields(), others=AnyJson(allow_null=True), initial=[{}])


SERIALIZERS: dict[str, type[SubmissionFields]] = {
    "agent": AgentSubmission,
    "validation": ValidationSubmission,
    "test": TestSubmission,
    "mcp": OperationSubmission,
}
"""Kind → the shape of its bodies; a kind that is not here takes ``AnySubmission``."""


def options_of(kind: str) -> list[str]:
    """The fields of a body that only this kind has, its items not counted."""
    return list(option_fields(SERIALIZERS.get(kind, AnySubmission)()))


def option_fields(shape: SubmissionFields) -> Fields:
    """The fields of a body that only its kind has, its items not counted."""
    return {
        name: field
        for name, field in shape.fields.items()
        if name not in COMMON_FIELDS and not isinstance(field, Items)
    }


def submission(kind: str, items_field: str, body: JSON) -> Submission:
    """What a validated body asks for."""
    items = body[items_field]
    common = {name: body[name] for name in COMMON_FIELDS & body.keys()}
    options = {
        name: value
        for name, value in body.items()
        if name != items_field and name not in COMMON_FIELDS
    }
    for name in ("after", "labels", "variants"):
        if name in common:
            common[name] = tuple(common[name])
    return Submission(kind=kind, items=items, options=options, **common)

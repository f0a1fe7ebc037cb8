"""Lines in the shape of OpenAI's batch files: on each a request, whose body is an item.

Source of the shape: https://platform.openai.com/docs/api-reference/batch/request-input
"""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from agents.contract import JSON
from batches.api.fields import Text, unknown, wrong_type
from batches.registry import Kind
from batches.submission import Item

MEMBERS = ("custom_id", "method", "url", "body")
METHOD = "POST"


def is_request(raw: JSON) -> bool:
    """An item of ours has no such fields; which of the other two are missing is told later."""
    return "custom_id" in raw and "body" in raw


def address(endpoint: str) -> str:
    """What ``url`` must be in the lines of a kind."""
    return f"/batch/{endpoint}"


def item_of(raw: JSON, kind: Kind, shape: Any, options: Any) -> Item:
    """The item of a request; its body may also give the ``options`` of the kind, for itself.

    Raises:
        ValidationError: names each wrong member, and each wrong field of the body.
    """
    errors: dict[str, Any] = {name: [unknown(MEMBERS)] for name in raw if name not in MEMBERS}
    for name in MEMBERS:
        if name not in raw:
            errors[name] = ["This field is required."]
    for name, wanted in (("method", METHOD), ("url", address(kind.endpoint))):
        if name in raw and _plain(raw[name]) != wanted:
            errors[name] = [f"Must be {wanted}."]
    values: JSON = {}
    for name, read in (("custom_id", _name), ("body", _body)):
        try:
            values[name] = read(raw.get(name))
        except serializers.ValidationError as wrong:
            errors.setdefault(name, wrong.detail)
    item: Item | None = None
    if "body" in values and "custom_id" in values:
        try:
            item = shape.item(values["body"] | {"id": values["custom_id"]}, options)
        except serializers.ValidationError as wrong:
            errors.setdefault("body", wrong.detail)
    if errors or item is None:
        raise serializers.ValidationError(errors)
    return item


def _plain(value: Any) -> Any:
    return value.rstrip("/") if isinstance(value, str) else value


def _name(value: Any) -> str:
    name: str = Text(max_length=128).run_validation(value)
    return name


def _body(value: Any) -> JSON:
    if not isinstance(value, dict):
        raise wrong_type("an object", value)
    if "id" in value:
        message = "Unknown field: the id of the item is the line's custom_id."
        raise serializers.ValidationError({"id": [message]})
    return value

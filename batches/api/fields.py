"""Fields that take exactly one JSON type, where DRF's own would convert ("5" to 5, 5 to "5")."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rest_framework import serializers
from rest_framework.validators import ProhibitSurrogateCharactersValidator

MOST_LEVELS = 32
LARGEST_INTEGER = 2**31 - 1


def json_type(value: object) -> str:
    """What a JSON reader calls it, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def wrong_type(wanted: str, value: object) -> serializers.ValidationError:
    return serializers.ValidationError(f"Must be {wanted}, not {json_type(value)}.")


def unknown(known: Iterable[str]) -> str:
    """What is said of a field that is none of ``known``."""
    return f"Unknown field: there are {', '.join(sorted(known))}."


def storable(text: str) -> str:
    """PostgreSQL stores neither NUL nor half a surrogate pair; SQLite's answer would depend on the
    column.

    Raises:
        ValidationError: it has one.
    """
    if "\0" in text:
        raise serializers.ValidationError("Null characters are not allowed.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise serializers.ValidationError("Surrogate characters are not allowed.") from None
    return text


class Text(serializers.CharField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)
        # DRF's walks over each character in Python; ``storable`` says the same at C speed.
        self.validators = [
            validator
            for validator in self.validators
            if not isinstance(validator, ProhibitSurrogateCharactersValidator)
        ]

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise wrong_type("a string", data)
        return storable(data)


class Integer(serializers.IntegerField):
    def __init__(self, *, min_value: int = 0, max_value: int = LARGEST_INTEGER, **kw: Any) -> None:
        super().__init__(min_value=min_value, max_value=max_value, **kw)

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, float):
            if not data.is_integer():
                raise wrong_type("a whole number", data)
            return int(data)  # 5.0 is an integer: JSON Schema 2020-12, 6.1.1
        if isinstance(data, bool) or not isinstance(data, int):
            raise wrong_type("an integer", data)
        return data


class Number(serializers.FloatField):
    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise wrong_type("a number", data)
        try:
            return float(data)
        except OverflowError:
            raise serializers.ValidationError("Is too large.") from None


class Boolean(serializers.BooleanField):
    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise wrong_type("a boolean", data)
        return data


class Choice(serializers.ChoiceField):
    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            raise wrong_type("a string", data)
        if data not in self.choices:
            raise serializers.ValidationError(f"Must be one of {', '.join(self.choices)}.")
        return data


class Moment(serializers.DateTimeField):
    """ISO 8601; without an offset it is UTC."""

    def to_internal_value(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise wrong_type("a string with a date and time in ISO 8601", value)
        return super().to_internal_value(value)


class Id(serializers.UUIDField):
    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            raise wrong_type("a string with a UUID", data)
        return super().to_internal_value(data)


class Listing(serializers.ListField):
    def to_internal_value(self, data: Any) -> list[Any]:
        if not isinstance(data, list):
            raise wrong_type("an array", data)
        return super().to_internal_value(data)


class AnyJson(serializers.Field[Any, Any, Any, Any]):
    """Any JSON value that can be stored, at most ``MOST_LEVELS`` deep."""

    def to_internal_value(self, data: Any) -> Any:
        _check(data, MOST_LEVELS)
        return data

    def to_representation(self, value: Any) -> Any:
        return value


def _check(value: Any, levels: int) -> None:
    if levels == 0:
        raise serializers.ValidationError(f"Nested more than {MOST_LEVELS} levels deep.")
    if isinstance(value, str):
        storable(value)
    elif isinstance(value, (list, dict)):
        parts: Iterable[tuple[Any, Any]] = (
            enumerate(value) if isinstance(value, list) else value.items()
        )
        for key, each in parts:
            try:
                storable(str(key))
                _check(each, levels - 1)
            except serializers.ValidationError as wrong:
                raise serializers.ValidationError({key: wrong.detail}) from None


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses what it does not know, beside everything else that is wrong."""

    def get_initial(self) -> dict[str, Any]:
        """The body the browsable API suggests: what must be there."""
        return {name: field.get_initial() for name, field in self.fields.items() if field.required}

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            raise wrong_type("an object", data)
        known = {name for name, field in self.fields.items() if not field.read_only}
        errors: dict[str, Any] = {name: [unknown(known)] for name in data.keys() - known}
        value = None
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as wrong:
            if not isinstance(wrong.detail, dict):
                raise
            errors |= wrong.detail
        if errors:
            raise serializers.ValidationError(errors)
        return value

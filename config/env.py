"""Typed readers of environment variables that fail loudly, naming the variable and its value.

Every reader also records what it read, so that a test can hold the guide to the settings.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable the program reads, for the guide and its test.

    ``default`` is as a person would write it, and None where it depends on the machine. A secret
    may also be given as ``NAME_FILE``.
    """

    name: str
    default: str | None
    secret: bool = False


READ: dict[str, Variable] = {}


def _value(name: str, default: str | None) -> str:
    """What is set, stripped; empty counts as not set."""
    READ[name] = Variable(name, default)
    return os.environ.get(name, "").strip()


def path(name: str, default: Path) -> Path:
    """A folder or file, absolute; ``~`` is the user's home."""
    return Path(_value(name, None) or default).expanduser().resolve()


def secret(name: str) -> str:
    """The value, or the stripped contents of the file that ``NAME_FILE`` names, or ``""``."""
    value = _value(name, None)
    READ[name] = Variable(name, None, secret=True)
    file = os.environ.get(f"{name}_FILE", "").strip()
    if value and file:
        raise ImproperlyConfigured(f"Set {name} or {name}_FILE, not both.")
    if not file:
        return value
    try:
        contents = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{name}_FILE={file!r} cannot be read: {error}") from error
    if not contents:
        raise ImproperlyConfigured(f"{name}_FILE={file!r} is empty.")
    return contents


def text(name: str) -> str:
    """What is set, or ``""``."""
    return _value(name, None)


def address(name: str, default: str) -> str:
    """Root address of an HTTP server, without a path for its version or a slash at the end."""
    value = _value(name, default) or default
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ImproperlyConfigured(f"{name} is not an address such as {default}.")
    return value.rstrip("/").removesuffix("/v1").rstrip("/")


def boolean(name: str, *, default: bool) -> bool:
    """1/true/yes/on or 0/false/no/off, in any case."""
    value = _value(name, str(default).lower()).lower()
    if not value:
        return default
    if value not in TRUE | FALSE:
        raise ImproperlyConfigured(f"{name}={value!r} is not one of true, false, 1, 0, yes, no.")
    return value in TRUE


def integer(name: str, default: int, *, least: int | None = None, most: int | None = None) -> int:
    """A whole number within ``least`` and ``most``, both included."""
    value = _value(name, str(default))
    if not value:
        return default
    try:
        number = int(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}={value!r} is not a whole number.") from error
    if least is not None and number < least:
        raise ImproperlyConfigured(f"{name}={number} must be at least {least}.")
    if most is not None and number > most:
        raise ImproperlyConfigured(f"{name}={number} must be at most {most}.")
    return number


def listing(name: str, default: Iterable[str] = ()) -> list[str]:
    """Comma-separated words, stripped; empty ones are dropped."""
    words = tuple(default)
    value = _value(name, ",".join(words))
    return [word.strip() for word in (value.split(",") if value else words) if word.strip()]


def choice(name: str, default: str, options: tuple[str, ...]) -> str:
    """One of ``options``, which are in capitals; compared without case."""
    value = (_value(name, default) or default).upper()
    if value not in options:
        raise ImproperlyConfigured(f"{name}={value!r} is not one of {', '.join(options)}.")
    return value

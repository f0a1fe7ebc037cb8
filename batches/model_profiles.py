"""Registering language models, and telling slots how to reach them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from agents.contract import JSON, MODELS
from batches.models import ModelProfile
from batches.references import check_address, check_reference, resolved
from batches.states import ModelProtocol
from batches.submission import FieldError, FieldErrors, InvalidSubmission

LIMITS = (
    "max_requests", "max_tool_calls", "max_tokens", "max_files", "max_bytes", "request_timeout",
)  # fmt: skip
FIELDS = (
    "protocol", "endpoint", "model", "num_ctx", "temperature", "keep_alive", "secret", "parallel",
    *LIMITS, "enabled",
)  # fmt: skip
KEEP_ALIVE = re.compile(r"\A(-?[0-9]{1,9}|([0-9]+(\.[0-9]+)?(h|m|s|ms))+)?\Z")
"""Ollama's: seconds, or a duration as Go writes it; a negative number keeps it for ever. Or empty:
as the server is set up."""
NO_TIME = "Must be a time such as 10m or 1h30m; -1 is for ever."
ONLY_OLLAMA = ("num_ctx", "keep_alive")


def register(
    name: str,
    values: dict[str, Any],
    added: Callable[[ModelProfile], object] = lambda _profile: None,
) -> ModelProfile:
    """Store a model; ``added`` is called in the transaction.

    Raises:
        InvalidSubmission: names each field that is wrong; nothing was stored.
    """
    profile = ModelProfile(name=name)
    _set(profile, values)
    try:
        with transaction.atomic():
            profile.save(force_insert=True)
            added(profile)
    except IntegrityError:
        raise InvalidSubmission([FieldError("name", "Is taken.")]) from None
    return profile


def change(profile: ModelProfile, values: dict[str, Any]) -> None:
    """Change and store some fields, within the caller's transaction.

    Raises:
        InvalidSubmission: names each field that is wrong; nothing was stored.
    """
    _set(profile, values)
    # Only what was given: somebody else may change another field at this moment.
    profile.save(update_fields=list(values))


def _set(profile: ModelProfile, values: dict[str, Any]) -> None:
    for field, value in values.items():
        setattr(profile, field, value)
    errors = FieldErrors()
    profile.endpoint = errors.caught("endpoint", _checked_endpoint, profile.endpoint)
    errors.caught("keep_alive", _check_keep_alive, profile.keep_alive)
    errors.caught("secret", _check_secret, profile.secret)
    if profile.protocol == ModelProtocol.OPENAI:
        if not profile.endpoint:
            errors.add("endpoint", "Say where the server is.")
        for field in ONLY_OLLAMA:
            if getattr(profile, field):
                errors.add(field, "Only Ollama can be told this.")
    try:
        profile.full_clean(validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        for field, messages in error.message_dict.items():
            errors.add(field, " ".join(messages))
    errors.raise_any()


def _checked_endpoint(endpoint: str) -> str:
    """The root of the server, whether or not the path of its version was given too."""
    if not endpoint:
        return ""
    check_address(endpoint, "http://127.0.0.1:11434")
    return endpoint.rstrip("/").removesuffix("/v1").rstrip("/")


def _check_keep_alive(keep_alive: str) -> None:
    if not KEEP_ALIVE.match(keep_alive):
        raise ValueError(NO_TIME)


def _check_secret(secret: str) -> None:
    if secret:
        check_reference(secret)


def processor_settings() -> JSON:
    """What slots are told: every profile, its API key resolved on this machine."""
    return {MODELS: told(ModelProfile.objects.all())}


def told(profiles: Iterable[ModelProfile]) -> dict[str, JSON]:
    """Profiles by name, as ``agents.coding.profile.find`` reads them, API keys and all.

    One that cannot be used is told with its ``problem``: tasks wait until it can.
    """
    return {profile.name: _told(profile) for profile in profiles}


def _told(profile: ModelProfile) -> JSON:
    api_key, problem = "", "" if profile.enabled else "it is disabled"
    if profile.secret:
        try:
            api_key = resolved(profile.secret)
        except LookupError as error:
            problem = problem or f"its API key cannot be read: {error.args[0]}"
    return {
        "protocol": str(profile.protocol),
        "endpoint": profile.endpoint or settings.OLLAMA_BASE_URL,
        "model": profile.model or profile.name,
        "num_ctx": profile.num_ctx,
        "temperature": profile.temperature,
        "keep_alive": profile.keep_alive,
        "api_key": api_key,
        **{limit: getattr(profile, limit) for limit in LIMITS},
        "problem": problem,
    }

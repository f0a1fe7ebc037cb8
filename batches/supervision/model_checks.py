"""Checking models on demand: does their server answer, and has it got them?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from django.conf import settings
from django.template.defaultfilters import filesizeformat

from agents.contract import JSON, MODEL_RESOURCE, MODELS
from batches import model_profiles
from batches.models import ModelProfile
from batches.supervision.asking import Answer, Question, ask_each, kind_told_by

PATIENCE = 30.0
"""Seconds: the server is only asked what it has, nothing is loaded."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in a server's memory."""

    name: str
    size: int | None
    """Bytes."""
    num_ctx: int | None
    until: str
    """When it is unloaded unless it is used, as the server writes it; empty: never, or unknown."""

    def __str__(self) -> str:
        return f"{self.name} ({filesizeformat(self.size)})" if self.size else self.name


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """``reason`` says why not, and what to do."""

    ok: bool
    reason: str
    seconds: float
    endpoint: str = ""
    model: str = ""
    """Its name there."""
    version: str | None = None
    """Of the server; None where it does not say."""
    loaded: bool | None = None
    running: list[Loaded] = field(default_factory=list)
    """What the server has in memory; empty where it does not say."""

    @property
    def said(self) -> str:
        """What follows the name of the model in a sentence."""
        if not self.ok:
            return f"cannot be used: {self.reason}"
        server = f"{self.endpoint} (version {self.version})" if self.version else self.endpoint
        state = {True: ", and it is loaded", False: ", not loaded yet", None: ""}[self.loaded]
        others = ", ".join(str(model) for model in self.running)
        memory = f" In memory there: {others}." if others else ""
        return f"is there on {server}{state}, after {self.seconds:.1f} s.{memory}"


def check_model(profile: ModelProfile) -> CheckedModel:
    """Ask a model's server, as a task on this machine would reach it."""
    ((_, checked),) = check_models([profile.name])
    return checked


def check_models(
    names: Iterable[str], *, within: float = math.inf
) -> Iterator[tuple[str, CheckedModel]]:
    """Ask for several models side by side, with a profile or without one, and give each as soon
    as its server answered or failed to. Within so many seconds, as ``ask_each`` says."""
    kind = kind_told_by(model_profiles.processor_settings)
    wanted = list(dict.fromkeys(names))
    told = model_profiles.told(ModelProfile.objects.filter(name__in=wanted))
    questions = (Question(MODEL_RESOURCE + name, kind, {MODELS: told}, PATIENCE) for name in wanted)
    for question, answer in ask_each(questions, within=within):
        yield question.resource.removeprefix(MODEL_RESOURCE), _checked(answer)


def usual_models() -> list[str]:
    """Those that a task needs which names none."""
    processor = kind_told_by(model_profiles.processor_settings).processor
    payload = processor.validate({"description": "-"}, settings.PROCESSOR_SETTINGS)
    return [name.removeprefix(MODEL_RESOURCE) for name in processor.resources(payload)]


def _checked(answer: Answer) -> CheckedModel:
    found = answer.found
    if not answer.ok:
        return CheckedModel(ok=False, reason=answer.reason, seconds=answer.seconds)
    return CheckedModel(
        ok=True,
        reason="",
        seconds=answer.seconds,
        endpoint=found["endpoint"],
        model=found["model"],
        version=found["version"],
        loaded=found["loaded"],
        running=[_loaded(entry) for entry in found["running"]],
    )


def _loaded(entry: JSON) -> Loaded:
    return Loaded(
        name=str(entry["name"]),
        size=entry["size"],
        num_ctx=entry["num_ctx"],
        until=entry["until"] or "",
    )

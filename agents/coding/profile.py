"""How a language model is reached and what one task may ask of it, as the console tells a slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from agents.contract import JSON, MODEL_RESOURCE, MODELS

OLLAMA = "http://127.0.0.1:11434"
"""Where Ollama listens unless it is told otherwise (its own default)."""

USUAL_WINDOW = 16_384
"""Tokens, of a model on Ollama whose profile says nothing of it. Ollama's own default, 4,096 on
most machines, does not hold a task, a few files and a red check: it would cut them silently."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One model. ``api_key`` is resolved: never log or store a profile whole."""

    name: str
    model: str
    """As the endpoint calls it, such as ``qwen2.5-coder:7b``."""
    protocol: Literal["ollama", "openai"] = "ollama"
    endpoint: str = OLLAMA
    """The server's root, without ``/v1``."""
    num_ctx: int | None = None
    """Tokens of the context window. On Ollama it is made real by a model derived from this one;
    None: that of a server of the other protocol, which is not known."""
    temperature: float | None = None
    keep_alive: str = ""
    """How long Ollama keeps the model loaded after a task, such as ``10m``; empty: its default."""
    api_key: str = ""
    max_requests: int = 60
    """Answers asked of the model in one task."""
    max_tool_calls: int = 300
    max_tokens: int = 400_000
    """Tokens of one task, read and written together."""
    max_files: int = 50
    """Files that one task may change."""
    max_bytes: int = 1024 * 1024
    """Bytes that one task may write."""
    request_timeout: int = 300
    """Seconds for one answer, loading the model included."""
    problem: str = ""
    """Why it cannot be reached with what the console knows, such as a secret that is not set."""

    @property
    def resource(self) -> str:
        return MODEL_RESOURCE + self.name

    @property
    def missing(self) -> str:
        """What to say, and to do, where the endpoint has no such model."""
        if self.protocol == "ollama":
            return f"{self.endpoint} has no model {self.model}: run `ollama pull {self.model}`"
        return f"{self.endpoint} has no model {self.model}: correct the model's profile"

    @property
    def unreachable(self) -> str:
        """What to say, and to do, where nobody answers; the cause is added by whoever met it."""
        if self.protocol == "ollama":
            return f"Ollama does not answer on {self.endpoint}: run `ollama serve` there"
        return f"the model server does not answer on {self.endpoint}: start it"


def find(name: str, settings: JSON) -> Profile:
    """The profile of that name; without one, the model of that name on the console's Ollama."""
    told: dict[str, Any] | None = settings.get(MODELS, {}).get(name)
    if told is None:
        endpoint = _root(settings.get("ollama_base_url") or OLLAMA)
        return Profile(name, name, endpoint=endpoint, num_ctx=USUAL_WINDOW)
    known = {key: told[key] for key in told if key in _FIELDS and key != "name"}
    known["endpoint"] = _root(known.get("endpoint") or OLLAMA)
    if known.get("num_ctx") is None and known.get("protocol", "ollama") == "ollama":
        known["num_ctx"] = USUAL_WINDOW
    return Profile(name=name, **{"model": name, **known})


def _root(endpoint: str) -> str:
    """The server's root, also where the path of its OpenAI-compatible part was written."""
    return endpoint.strip().rstrip("/").removesuffix("/v1").rstrip("/")


_FIELDS = frozenset(Profile.__dataclass_fields__)

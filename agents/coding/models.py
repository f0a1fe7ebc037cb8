"""A profile as a model that pydantic-ai asks, watched: each answer is written down and counted."""

from __future__ import annotations

import functools
import json
import time

from openai import AsyncOpenAI
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelOverloadedError,
    ModelRateLimitError,
    ModelTimeoutError,
    ModelUnavailableError,
    OutputTokenLimitExceeded,
    RunTimedOut,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
)
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RunUsage, UsageLimits

from agents.coding.bounded import ANSWER_BYTES, AnswerTooLong, BoundedClient
from agents.coding.endpoint import look
from agents.coding.profile import Profile
from agents.coding.transcript import Transcript
from agents.coding.window import ContextFull, Window, size
from agents.contract import JSON, LimitReached, Outcome, Rejected, StillAway, TryAgain, Unavailable

AWAY = (
    ModelNotFoundError,
    ModelUnavailableError,
    ModelOverloadedError,
    ModelRateLimitError,
    ModelAuthenticationError,
)
"""The server says that it cannot answer now, or not until somebody has done something."""


REFUSED = (400, 422)
"""The request itself is at fault, such as tools for a model that has none: asking again is vain."""


class NotAnAnswer(Exception):
    """The server answered with something else than an answer of a model, such as a web page."""


class WatchedModel(WrapperModel):
    """One role's model. ``usage`` grows over all its runs in the attempt."""

    def __init__(self, profile: Profile, asked_for: str, role: str, transcript: Transcript) -> None:
        super().__init__(_model(profile, asked_for))
        self.asked = profile
        self.usage = RunUsage()
        self._role = role
        self._transcript = transcript
        self._window = Window(profile.num_ctx, profile.name)

    @property
    def limits(self) -> UsageLimits:
        """Of all runs together."""
        return UsageLimits(
            request_limit=self.asked.max_requests,
            tool_calls_limit=self.asked.max_tool_calls,
            total_tokens_limit=self.asked.max_tokens,
        )

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        tools = _described(model_request_parameters)
        fitted = self._window.fitted(messages, tools)
        begun = time.monotonic()
        try:
            response = await super().request(fitted, model_settings, model_request_parameters)
        except UnexpectedModelBehavior as error:
            raise NotAnAnswer(str(error)) from error
        self._transcript.add(
            "turn",
            role=self._role,
            text="".join(part.content for part in response.parts if isinstance(part, TextPart)),
            calls=[
                {"tool": part.tool_name, "arguments": part.args}
                for part in response.parts
                if isinstance(part, ToolCallPart)
            ],
            input_tokens=response.usage.input_tokens,
            output_tokens=response.usage.output_tokens,
            seconds=round(time.monotonic() - begun, 3),
        )
        try:
            self._window.counted(size(fitted), response.usage.input_tokens, tools)
        except ContextFull:
            # Whoever runs the model counts what it returns only.
            self.usage.requests += 1
            self.usage.incr(response.usage)
            raise
        return response

    def used(self) -> JSON:
        """What the attempt's result says of it."""
        return {
            "requests": self.usage.requests,
            "input_tokens": self.usage.input_tokens,
            "output_tokens": self.usage.output_tokens,
            "tool_calls": self.usage.tool_calls,
        }

    def limit_reached(self) -> str:
        """The name of the limit that is used up."""
        if self.usage.requests >= self.asked.max_requests:
            return "requests"
        if self.usage.total_tokens >= self.asked.max_tokens:
            return "tokens"
        return "tool_calls"


def _model(profile: Profile, asked_for: str) -> OpenAIChatModel:
    client = _client(profile.endpoint, profile.api_key, profile.request_timeout)
    # One system message at the beginning is all that every model's template takes.
    settings = ModelSettings(parallel_tool_calls=False, framing_announcement="never")
    if profile.temperature is not None:
        settings["temperature"] = profile.temperature
    if profile.protocol == "ollama":
        provider = OllamaProvider(openai_client=client)
        return OllamaModel(asked_for, provider=provider, settings=settings)
    return OpenAIChatModel(
        asked_for,
        provider=OpenAIProvider(openai_client=client),
        profile=OpenAIModelProfile(supports_inline_system_prompts=False),
        settings=settings,
    )


@functools.lru_cache(maxsize=8)
def _client(endpoint: str, api_key: str, timeout: int) -> AsyncOpenAI:
    """Kept for the attempts to come; everything said: else it looks into our environment."""
    return AsyncOpenAI(
        base_url=f"{endpoint}/v1",
        api_key=api_key or "none",
        organization="",
        project="",
        timeout=timeout,
        max_retries=0,
        http_client=BoundedClient(timeout=timeout),
    )


def _described(parameters: ModelRequestParameters) -> int:
    """Characters of the tools' descriptions, as the server gets them."""
    return sum(
        len(tool.name) + len(tool.description or "") + len(json.dumps(tool.parameters_json_schema))
        for tool in parameters.function_tools
    )


ENDED_BY_MODEL = (AgentRunError, AnswerTooLong, ContextFull, NotAnAnswer)
"""What a run of a model may raise, tools aside."""


def outcome_of(error: Exception, model: WatchedModel, result: JSON) -> Outcome | None:
    """What becomes of an attempt whose model did not answer; None: its time is up."""
    if isinstance(error, RunTimedOut):
        return None
    if limit := _limit_of(error, model):
        return LimitReached(*limit, result)
    if failure := _failure_of(error, model.asked):
        return failure
    reason = f"{model.asked.name} did not answer in a way that can be used: {error}"
    if isinstance(error, ModelHTTPError):
        reason = _told(model.asked, error)
    return Rejected(reason, {**result, "ended": "gave_up"})


def _limit_of(error: Exception, model: WatchedModel) -> tuple[str, str] | None:
    """The limit that was reached, and the reason."""
    name = model.asked.name
    match error:
        case AnswerTooLong():
            return "answer", f"{name} was stopped in an answer of more than {ANSWER_BYTES} bytes"
        case ContextFull():
            return "context", str(error)
        case ModelContextWindowExceededError():
            return "context", f"{name} says that the conversation is too long: {error.message}"
        case OutputTokenLimitExceeded():
            return "context", f"{name} was cut off in the middle of an answer: {error.message}"
        case UsageLimitExceeded():
            limit = model.limit_reached()
            return limit, f"{name} has used up its {limit}"
    return None


def _failure_of(  # noqa: PLR0911 - one outcome a line
    error: Exception, profile: Profile
) -> Outcome | None:
    """What the server is at fault for; None: it is not."""
    match error:
        case ModelTimeoutError():
            return TryAgain(f"{profile.name}: no answer within {profile.request_timeout} s")
        case _ if isinstance(error, AWAY):
            return Unavailable(profile.resource, _why_away(profile, error))
        case ModelConnectionError():
            return _unless_away(profile, f"the connection to {profile.endpoint} broke off")
        case ModelHTTPError() if error.status_code in REFUSED:
            return None
        case ModelAPIError():
            return _unless_away(profile, _told(profile, error))
        case NotAnAnswer():
            return _unless_away(profile, f"{profile.endpoint} gave no answer of a model: {error}")
    return None


def _why_away(profile: Profile, error: Exception) -> str:
    if isinstance(error, ModelNotFoundError):
        return profile.missing
    if isinstance(error, ModelAuthenticationError):
        return f"{profile.endpoint} refuses the API key of the profile {profile.name}"
    return f"{profile.endpoint} is busy: {error}"


def _told(profile: Profile, error: ModelAPIError) -> str:
    status = f" {error.status_code}" if isinstance(error, ModelHTTPError) else ""
    return f"{profile.endpoint} answered{status}: {error.message}"


def _unless_away(profile: Profile, reason: str) -> Outcome:
    """A server that fails is away where it says so when it is asked for its models.

    Else it costs one of the attempts: one that always breaks off would be asked for ever.
    """
    try:
        look(profile)
    except StillAway as away:
        return Unavailable(profile.resource, str(away))
    return TryAgain(reason)

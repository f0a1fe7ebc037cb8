"""Answers that are streamed as they are; a problem is JSON there too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework.renderers import BaseRenderer, JSONRenderer


class Streamed(BaseRenderer):
    """Names a format; only a problem is ever rendered by it."""

    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return JSONRenderer().render(data)


class Verbatim(Streamed):
    """A file, whatever the client says it accepts."""

    media_type = "*/*"
    format = "file"


class JsonLines(Streamed):
    """One JSON object a line (jsonlines.org)."""

    media_type = "application/x-ndjson"
    format = "jsonl"


class RequestResults(JsonLines):
    """The lines in the shape of OpenAI's batch files."""

    format = "openai"
    suffix = "jsonl"


class Csv(Streamed):
    media_type = "text/csv"
    format = "csv"


class Sarif(Streamed):
    """A log of findings (OASIS SARIF 2.1.0)."""

    media_type = "application/sarif+json"
    format = "sarif"


class Junit(Streamed):
    media_type = "application/xml"
    format = "junit"
    suffix = "xml"

"""Kombu's SQS transport with a worker that outlives a moment without an answer.

Kombu 5.7 makes an empty list of an answer that did not come or was 5xx (``_on_list_ready`` of its
connection), and then reads it as the dictionary that a real answer is, which ends the worker.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import SQS


class Channel(SQS.Channel):  # type: ignore[misc]
    def _on_messages_ready(self, queue: str, qname: str, messages: Any) -> Any:
        """No answer has no messages: the next poll asks again."""
        return super()._on_messages_ready(queue, qname, messages or {})


class Transport(SQS.Transport):  # type: ignore[misc]
    Channel = Channel

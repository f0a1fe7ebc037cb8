"""The model that changes code: its instructions, its tools, and one conversation after another."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from pydantic_ai import Agent, Tool
from pydantic_ai.messages import ModelMessage

from agents.coding.files import CopyFiles
from agents.coding.guard import Commands
from agents.coding.models import WatchedModel
from agents.coding.refusals import Blocked, ToolRefused
from agents.coding.transcript import Transcript

INSTRUCTIONS = """\
You are a careful software engineer. You change the files of one project so that the task is done.

Work in small steps: look at the files that matter, change them with edit_file or write_file, run a
command where it tells you something, then stop. Use the tools: what you only write in an answer
changes nothing. Paths are relative to the project's folder. Change only what the task needs. Do not
change tests to make them pass unless the task asks for it.

When you are done, answer with one short paragraph that says what you changed. {check}"""
CHECKED = "Then `{command}` is run; if it fails you are shown its output and go on."
UNCHECKED = "Nothing is run afterwards."
TOOL_RETRIES = 5
"""Calls in a row that cannot be read, or of tools that are not there, before the run ends."""


class Coder:
    """One attempt's coder."""

    def __init__(
        self,
        model: WatchedModel,
        files: CopyFiles,
        commands: Commands,
        transcript: Transcript,
        check_command: str | None,
    ) -> None:
        self._model = model
        self._transcript = transcript
        self._history: list[ModelMessage] = []
        offered: Sequence[Callable[..., str]] = (
            files.list_files,
            files.read_file,
            files.search,
            files.write_file,
            files.edit_file,
            commands.run_command,
        )
        check = CHECKED.format(command=check_command) if check_command else UNCHECKED
        self._agent: Agent[None, str] = Agent(
            model,
            instructions=INSTRUCTIONS.format(check=check),
            tools=[Tool(self._told(each), takes_ctx=False, sequential=True) for each in offered],
            retries=TOOL_RETRIES,
        )

    def ask(self, prompt: str, within: timedelta) -> str:
        """Go on with the conversation until the model stops; returns what it said last.

        Raises:
            one of ``ENDED_BY_MODEL``, ``LimitExceeded``, or what a tool's sandbox raises.
        """
        self._transcript.add("prompt", role="coder", text=prompt)
        result = self._agent.run_sync(
            prompt,
            message_history=self._history,
            usage=self._model.usage,
            usage_limits=self._model.limits,
            timeout=max(within.total_seconds(), 0.001),
        )
        self._history = result.all_messages()
        return result.output

    def _told(self, tool: Callable[..., str]) -> Callable[..., str]:
        """The tool, written down; a refusal is an answer like any other."""

        @functools.wraps(tool)
        def call(**arguments: object) -> str:
            begun = time.monotonic()
            ok, blocked = True, False
            try:
                answer = tool(**arguments)
            except ToolRefused as refused:
                ok, blocked = False, isinstance(refused, Blocked)
                answer = f"refused: {refused}"
            self._transcript.add(
                "tool",
                name=tool.__name__,
                arguments=arguments,
                result=answer,
                ok=ok,
                blocked=blocked,
                seconds=round(time.monotonic() - begun, 3),
            )
            return answer

        return call

"""What an agent and its models said, as a page shows it: bounded, however long they talked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from batches.admin import markup
from batches.models import LogLine, Task

EVENTS = ("prompt", "turn", "tool", "check", "verdict")
SAID_BEFORE = "said_before"
"""Query parameter: the id that the shown events come before."""
SHOWN = 40
LONGEST = 3000
"""Characters of one text; the file that the attempt leaves has it whole."""
SHORT, LINES = 300, 4
"""Characters and lines of a text that are shown without its being unfolded."""


def transcript(task: Task, before: str | None) -> dict[str, Any] | None:
    """The last events of the newest attempt, in their order; None where there are none."""
    lines = LogLine.objects.filter(task=task, attempt=task.attempt, event__in=EVENTS)
    if before and before.isdecimal():
        lines = lines.filter(id__lt=int(before))
    found = list(lines.order_by("-id")[: SHOWN + 1])
    if not found and not before:
        return None
    shown = found[:SHOWN][::-1]
    return {
        "events": [event(line) for line in shown],
        "older": shown[0].pk if len(found) > SHOWN else None,
        "is_newest": not before,
    }


def event(line: LogLine) -> dict[str, Any]:
    """One of them: who, when, what about, and texts of which long ones are folded."""
    fields = line.fields
    return {
        "name": line.event,
        "clock": line.at.strftime("%H:%M:%S"),
        "at": markup.exact(line.at),
        "who": who(line.event, fields),
        "badge": badge(line.event, fields),
        "facts": " · ".join(facts(fields)),
        "texts": [folded(*text) for text in texts(line.event, fields) if text[1]],
    }


def who(name: str, fields: Mapping[str, Any]) -> str:
    match name:
        case "prompt":
            return f"to the {fields.get('role', 'model')}"
        case "turn":
            return str(fields.get("role", "model"))
        case "tool":
            return str(fields.get("name", "tool"))
    return {"check": "check", "verdict": "reviewer"}[name]


def badge(name: str, fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """The colour and the word of what came of it."""
    match name:
        case "tool" if fields.get("blocked"):
            return "failed", "blocked"
        case "tool" if fields.get("ok") is False:
            return "warning", "refused"
        case "check":
            return ("passed", "green") if fields.get("ok") else ("failed", "red")
        case "verdict":
            return ("passed", "approved") if fields.get("approve") else ("failed", "sent back")
    return None


def facts(fields: Mapping[str, Any]) -> Iterable[str]:
    if isinstance(loop := fields.get("loop"), int) and loop:
        yield f"loop {loop}"
    if isinstance(tokens := fields.get("input_tokens"), int):
        yield f"{tokens:,} tokens in, {fields.get('output_tokens', 0):,} out"
    if isinstance(seconds := fields.get("seconds"), int | float):
        yield markup.measured(seconds)


def texts(name: str, fields: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Labels, empty for the main text, and texts."""
    match name:
        case "prompt" | "turn":
            yield "", str(fields.get("text") or "")
            for call in fields.get("calls") or ():
                yield f"calls {call.get('tool', '')}", arguments(call.get("arguments"))
        case "tool":
            yield "", arguments(fields.get("arguments"))
            yield "answer", str(fields.get("result") or "")
        case "check":
            yield "", str(fields.get("reason") or "")
            yield "output", str(fields.get("output") or "")
        case "verdict":
            yield "", "\n".join(f"- {problem}" for problem in fields.get("problems") or ())


def arguments(given: Any) -> str:
    """``name=value`` a line."""
    if isinstance(given, Mapping):
        return "\n".join(
            f"{name}={value if isinstance(value, str) else markup.compact(value)}"
            for name, value in given.items()
        )
    return "" if given is None else str(given)


def folded(label: str, text: str) -> dict[str, str]:
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    start = "\n".join(text[:SHORT].splitlines()[:LINES]).rstrip()
    if label and "\n" in start:
        start, text = f"\n{start}", f"\n{text}"  # the label has a line of its own
    if start == text.rstrip():
        return {"label": label, "start": start, "rest": ""}
    return {"label": label, "start": f"{start}…", "rest": text}

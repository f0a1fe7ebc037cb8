"""Results as a person reads them: findings and test cases as tables, anything else as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from batches.admin import agent_results, markup
from batches.models import Task

LARGE = 20_000
"""Characters of JSON, output or failure text that are shown; the download holds all of it."""
ROWS = 500


def shown(task: Task) -> dict[str, Any] | None:
    """What to show of a result, and with which template; None while there is none."""
    if task.result is None:
        return None
    template, read = READERS.get(task.kind, (GENERIC, generic))
    try:
        told = read(task.result)
    except (AttributeError, KeyError, TypeError, ValueError):
        # A result of an older version, or of a processor that was replaced: still shown, as it is.
        template, told = GENERIC, generic(task.result)
    return {"template": template, **told}


def generic(result: Any) -> dict[str, Any]:
    return {"text": markup.pretty(result, LARGE)}


def findings(result: Mapping[str, Any]) -> dict[str, Any]:
    """Findings, which are SARIF 2.1.0 results, and how each check ended."""
    if "findings" not in result:  # of a check command: an exit code and its output
        return {"rows": None, **rest(result)}
    found = result["findings"]
    return {
        "rows": [
            {
                "level": row.get("level", "warning"),
                "check": row.get("properties", {}).get("check", ""),
                "rule": row.get("ruleId", ""),
                "place": place(row),
                "message": row["message"]["text"],
            }
            for row in found[:ROWS]
        ],
        "total": result["total"],
        "checks": [
            {"name": name, "ended": ended(check), "said": check.get("skipped", "")}
            for name, check in result["checks"].items()
        ],
        **rest(result, "findings", "total", "checks"),
    }


def ended(check: Mapping[str, Any]) -> str:
    """How one check ended, in one word."""
    if "skipped" in check:
        return "skipped"
    return "passed" if check["ok"] else "failed"


def cases(result: Mapping[str, Any]) -> dict[str, Any]:
    """Test cases, those that need a look first, each with outcome, duration and failure text."""
    if "cases" not in result:  # of a command that is not pytest: an exit code and its output
        return {"rows": None, **rest(result)}
    found = result["cases"]
    return {
        "rows": [
            {
                "name": row["id"],
                "outcome": row["outcome"],
                "took": f"{row['seconds']:.3f} s",
                "message": row.get("message") or "",
                "text": clip(row.get("text") or ""),
            }
            for row in sorted(found, key=calm)[:ROWS]
        ],
        "total": result.get("total", len(found)),
        "tally": {name: number for name, number in result.get("counts", {}).items() if number},
        "running": result.get("running"),
        **rest(result, "cases", "total", "counts", "running"),
    }


def operation(result: Mapping[str, Any]) -> dict[str, Any]:
    """What an MCP server answered: its texts, its tools, or the contents of a resource."""
    tools = result.get("tools", [])
    blocks = result.get("content", result.get("contents", []))
    structured = result.get("structured") or {}
    if "exit_code" in structured or "content" in structured:
        texts = [structured.get("output", structured.get("content", ""))]
    else:
        texts = [block["text"] for block in blocks if "text" in block]
    return {
        "tools": [
            {"name": tool["name"], "description": tool.get("description", "")}
            for tool in tools[:ROWS]
        ],
        "said": clip("\n".join(map(str, texts))),
        **rest(result, "tools", "content", "contents"),
    }


def rest(result: Mapping[str, Any], *shown_already: str) -> dict[str, Any]:
    """The command's output on its own, and what else the result holds."""
    others = {name: value for name, value in result.items() if name not in shown_already}
    output = others.pop("output", "")
    return {
        "output": clip(output) if isinstance(output, str) else "",
        "text": markup.pretty(others, LARGE) if others else "",
    }


def place(row: Mapping[str, Any]) -> str:
    """``path:line:column`` of a SARIF result, as far as it is known."""
    for location in row.get("locations", [])[:1]:
        physical = location["physicalLocation"]
        region = physical.get("region", {})
        where = [unquote(physical["artifactLocation"]["uri"])]
        where += [str(region[key]) for key in ("startLine", "startColumn") if key in region]
        return ":".join(where)
    return ""


def calm(row: Mapping[str, Any]) -> int:
    """Sorts failed cases before skipped ones, and those before passed ones."""
    return {"passed": 2, "skipped": 1, "xfailed": 1}.get(str(row.get("outcome")), 0)


def clip(text: str) -> str:
    """Head and tail of a text that is too long: the cause is often in the last lines."""
    if len(text) <= LARGE:
        return text
    half = LARGE // 2
    return f"{text[:half]}\n… {len(text) - LARGE:,} characters …\n{text[-half:]}"


GENERIC = "console/results/generic.html"
READERS: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "validation": ("console/results/findings.html", findings),
    "test": ("console/results/cases.html", cases),
    "mcp": ("console/results/operation.html", operation),
    "agent": ("console/results/agent.html", agent_results.told),
    "apply": ("console/results/applying.html", agent_results.applying),
}

"""The result of an agent as a person reads it before deciding on its patch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from batches.admin import markup

ENDED = {
    "approved": ("passed", "Approved"),
    "passed": ("passed", "Passed, not reviewed"),
    "check_failed": ("failed", "Check failed"),
    "reviewer_refused": ("failed", "Reviewer refused"),
    "blocked": ("failed", "Blocked by the guardrail"),
    "gave_up": ("failed", "Gave up"),
    "unchanged": ("failed", "Changed nothing"),
    "limit": ("limit", "Stopped by a limit"),
}
APPLIED = {
    "applied": ("passed", "In the workspace"),
    "already": ("passed", "Was in the workspace"),
    "conflict": ("failed", "Conflict"),
    "pending": ("neutral", "Left for review"),
}
NAMES = 100
"""Test cases, findings or files that are named."""
LONGEST = 4000
SHOWN = frozenset({
    "ok", "ended", "loops", "summary", "validator_ok", "verdict", "blocked", "patch", "applied",
    "conflicts", "check", "findings", "usage", "models", "transcript", "seconds", "base_commit",
})  # fmt: skip


def told(result: Mapping[str, Any]) -> dict[str, Any]:
    """How it ended, what the check says before and after, and what it cost."""
    verdict, check = result["verdict"] or {}, result["check"]
    findings = result["findings"] or {}
    return {
        "ended": ENDED.get(result["ended"], ("neutral", str(result["ended"]))),
        "applied": APPLIED.get(result["applied"]),
        "summary": cut(result["summary"]),
        "problems": [cut(problem) for problem in verdict.get("problems", [])[:NAMES]],
        "files": ((result["patch"] or {}).get("files") or [])[:NAMES],
        "conflicts": [conflict(each) for each in result["conflicts"][:NAMES]],
        "check": check and proof(check),
        "findings": findings.get("added", [])[:NAMES] and [
            finding(each) for each in findings["added"][:NAMES]
        ],
        "removed": findings.get("removed", 0),
        "facts": list(facts(result)),
    }  # fmt: skip


def applying(result: Mapping[str, Any]) -> dict[str, Any]:
    """Of a task that applied a patch."""
    return {
        "ended": APPLIED.get(result["applied"], ("neutral", str(result["applied"]))),
        "paths": [str(path) for path in result.get("files", [])[:NAMES]],
        "conflicts": [conflict(each) for each in result.get("conflicts", [])[:NAMES]],
    }


def proof(check: Mapping[str, Any]) -> dict[str, Any]:
    """The check without the patch and with it, and the cases whose outcome it changed."""
    cases = check.get("cases") or {}
    edited = check.get("edited") or {}
    return {
        "command": " ".join(map(str, check.get("command") or [])),
        "before": side(check["before"]),
        "after": side(check["after"]),
        "cases": [
            {"name": name, "words": words, "ids": cases[name][:NAMES], "number": number}
            for name, words in (
                ("fixed", "fixed"), ("broken", "broken"), ("still_red", "still red"),
            )
            if (number := cases.get(f"{name}_total", 0))
        ],
        "unchanged": cases.get("unchanged"),
        "reason": check.get("reason", ""),
        "edited": edited.get("files", [])[:NAMES],
        "own": side(edited["check"]) if edited.get("check") else None,
    }  # fmt: skip


def side(check: Mapping[str, Any]) -> dict[str, Any]:
    total, red = check.get("total"), check.get("red_total", 0)
    words = "green" if check["ok"] else "red"
    if total is not None:
        words += f", {total - red} of {total} passed"
    return {
        "colour": "passed" if check["ok"] else "failed",
        "words": words,
        "took": markup.measured(check["seconds"]),
        "output": cut(check.get("output", "")),
    }


def conflict(each: Mapping[str, Any]) -> dict[str, str]:
    return {
        "path": str(each["path"]),
        "reason": str(each.get("reason", "")),
        "hunks": cut(each.get("hunks") or ""),
    }


def finding(row: Mapping[str, Any]) -> dict[str, str]:
    """A SARIF 2.1.0 result."""
    place = ""
    for location in row.get("locations", [])[:1]:
        physical = location["physicalLocation"]
        line = physical.get("region", {}).get("startLine", "")
        place = f"{physical['artifactLocation']['uri']}:{line}"
    return {"rule": row.get("ruleId", ""), "place": place, "message": cut(row["message"]["text"])}


def facts(result: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "Loops", str(result["loops"])
    if result["blocked"]:
        yield "Blocked", f"{result['blocked']} times"
    models = result["models"]
    for role, used in result["usage"].items():
        if used:
            told = f"{used['requests']} requests, {used['input_tokens']:,} tokens in"
            yield (
                f"{role.capitalize()}: {models.get(role)}",
                f"{told}, {used['output_tokens']:,} out",
            )
    yield "Took", markup.measured(result["seconds"])
    if result["base_commit"]:
        yield "Base commit", result["base_commit"][:12]


def cut(text: Any) -> str:
    text = str(text or "")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"

"""What the examples of the OpenAPI document tell: a nightly batch of one module that is red."""

from __future__ import annotations

from typing import Any

from batches.states import TaskState

JSON = dict[str, Any]

ID = "01a20487-e629-74b9-b4c6-8390929bf599"
TASK_ID = "01a20487-e62b-7011-8f3a-5d1c7be0a2c4"
MADE, STARTED, FINISHED = (f"2026-01-31T22:00:0{second}Z" for second in (0, 1, 3))
HERE = "http://localhost:8000/batch"
WORKER = "build1-4711-d2bfdc"
REASON = "1 failed, 1 passed"
OPTIONS: JSON = {
    "name": "Nightly", "workspace": "shop", "priority": 7, "parallel": 2, "max_attempts": 2,
    "timeout": 600, "labels": ["nightly"], "on_failure": "stop",
}  # fmt: skip


def batch(kind: str = "test", **changes: Any) -> JSON:
    """What is answered to a submission of ``OPTIONS`` with one item."""
    shown = ("name", "workspace", "priority", "parallel", "labels")
    return {
        "id": ID, "kind": kind, "owner": "admin", "backend": "database",
        "status": "queued", "dispatch": None, "paused": False, "after": [], "run_at": None,
        "deadline": None, "variants": [], "resumes": None, "left_out": 0, "total": 1,
        "progress": {
            "counts": {state.value: int(state == TaskState.QUEUED) for state in TaskState},
            "percentage": 0.0, "rate": None, "seconds_left": None,
        },
        "created_at": MADE, "started_at": None, "finished_at": None,
        "links": {
            "self": f"{HERE}/{ID}", "tasks": f"{HERE}/{ID}/tasks",
            "results": f"{HERE}/{ID}/results",
        },
    } | {name: OPTIONS[name] for name in shown} | changes  # fmt: skip


def task(**changes: Any) -> JSON:
    """The task of that batch, at its end."""
    return {
        "id": TASK_ID, "batch": ID, "custom_id": "0", "variant": "", "position": 0, "kind": "test",
        "queue": "tests", "priority": 7, "state": "failed", "failure": "rejected", "attempt": 1,
        "failures": 0, "max_attempts": 2, "timeout": 600, "depends_on": [],
        "payload": {"path": "tests/test_basket.py", "test_command": "pytest -v"},
        "result": RESULT, "error": REASON,
        "attempts": [
            {
                "number": 1, "worker": WORKER, "outcome": "rejected", "error": REASON,
                "sandbox": "bubblewrap", "started_at": STARTED, "finished_at": FINISHED,
            },
        ],
        "artefacts": [
            {
                "attempt": 1, "name": "junit.xml", "media_type": "application/xml", "size": 412,
                "created_at": FINISHED,
                "url": f"{HERE}/tasks/{TASK_ID}/artefacts/junit.xml?attempt=1",
            },
        ],
        "decision": None, "created_at": MADE, "started_at": STARTED, "finished_at": FINISHED,
    } | changes  # fmt: skip


def reviewed(verb: str, **decision: Any) -> JSON:
    """A task of an agent, whose patch somebody has decided on."""
    kept = {"attempt": 1, "name": "changes.patch", "media_type": "text/x-diff", "size": 218}
    address = f"{HERE}/tasks/{TASK_ID}/artefacts/changes.patch?attempt=1"
    attempt = task()["attempts"][0] | {"outcome": "succeeded", "error": ""}
    return task(
        kind="agent", queue="agent_tasks", state="succeeded", failure="", error="",
        payload=AGENT, result=PATCHED, attempts=[attempt],
        artefacts=[kept | {"created_at": FINISHED, "url": address}],
        decision={"verb": verb, "by": "admin", "at": FINISHED, "task": None, "state": None}
        | decision,
    )  # fmt: skip


AGENT: JSON = {
    "description": "Let total add up the prices.", "coder_model": "qwen2.5-coder:7b",
    "reviewer_model": None, "check_command": "pytest -q", "max_loops": 4, "apply_changes": False,
}  # fmt: skip
PATCHED: JSON = {
    "ok": True, "ended": "passed", "loops": 1, "summary": "total adds up what it is given.",
    "validator_ok": True, "verdict": None, "blocked": 0, "base_commit": "8a4c02f", "patch": {
        "artefact": "changes.patch", "sha256": "5f70bf18", "bytes": 218,
        "files": [
            {"path": "shop.py", "status": "modified", "added": 1, "removed": 1, "binary": False},
        ],
    },
    "applied": "pending", "conflicts": [], "transcript": "transcript.jsonl", "seconds": 41.2,
}  # fmt: skip
"""Of a task of kind agent, but for its check, its findings and what its models used."""
RESULT: JSON = {
    "path": "tests/test_basket.py", "ok": False, "command": "pytest -v tests/test_basket.py",
    "counts": {
        "passed": 1, "failed": 1, "errors": 0, "skipped": 0, "xfailed": 0, "xpassed": 0,
    },
    "total": 2,
    "cases": [
        {
            "id": "tests/test_basket.py::test_total", "outcome": "failed", "seconds": 0.0021,
            "message": "assert 12 == 10", "text": "def test_total(): …",
        },
        {"id": "tests/test_basket.py::test_empty", "outcome": "passed", "seconds": 0.0003},
    ],
    "cases_truncated": False, "running": None, "exit_code": 1,
    "output": {"head": "…", "tail": "", "bytes": 1204, "truncated": False}, "seconds": 1.2,
}  # fmt: skip
"""Of a task of kind test; a run of the real processor has these fields."""

LINE: JSON = {
    "position": 0, "custom_id": "0", "variant": "", "id": TASK_ID, "state": "failed",
    "failure": "rejected", "attempt": 1, "result": RESULT, "error": REASON, "started_at": STARTED,
    "finished_at": FINISHED,
}  # fmt: skip
CELERY_TASK: JSON = {
    "task_id": TASK_ID, "status": "FAILURE", "ready": True, "successful": False,
    "result": RESULT, "error": REASON,
    "meta": {
        "name": "process_test", "kind": "test", "group_id": ID, "custom_id": "0", "variant": "",
        "attempt": 1, "failure": "rejected", "worker": WORKER, "started_at": STARTED,
        "finished_at": FINISHED,
    },
}  # fmt: skip
LOG_LINE: JSON = {
    "id": 1201, "attempt": 1, "at": FINISHED, "event": "test failed",
    "fields": {"id": "tests/test_basket.py::test_total", "message": "assert 12 == 10"},
}  # fmt: skip
SAID: JSON = {
    "id": 1202, "attempt": 1, "at": FINISHED, "event": "turn",
    "fields": {
        "n": 2, "at": 4.1, "loop": 1, "role": "coder", "text": "I read the file first.",
        "calls": [{"tool": "read_file", "arguments": {"path": "shop.py"}}],
        "input_tokens": 812, "output_tokens": 34, "seconds": 3.9,
    },
}  # fmt: skip
COMPARED: JSON = {
    "batch": ID, "variant": "", "options": {}, "total": 1,
    "states": {"queued": 0, "running": 0, "succeeded": 0, "failed": 1, "cancelled": 0},
    "failures": {"rejected": 1}, "judged": 1, "passed": 0, "pass_rate": 0.0,
    "interval": [0.0, 0.7935], "seconds": {"median": 1.4, "p90": 1.4}, "loops": None,
    "turns": None, "tokens": {"input": 0, "output": 0}, "applied": 0,
}  # fmt: skip
COMPARED_ITEM: JSON = {
    "position": 0, "custom_id": "0",
    "tasks": [
        {
            "id": TASK_ID, "batch": ID, "variant": "", "state": "failed", "failure": "rejected",
            "passed": False, "seconds": 1.4, "loops": None, "turns": None, "tokens": None,
            "applied": None, "decision": None,
        },
    ],
}  # fmt: skip
QUEUE: JSON = {
    "name": "tests", "priority": 6, "paused": False, "concurrency_limit": None,
    "rate_limit": None, "depth": 12, "running": 2,
}  # fmt: skip
WORKSPACE: JSON = {
    "id": ID, "name": "shop", "path": "/srv/shop",
    "environment": {"virtualenv": "", "path": [], "variables": {"TZ": "UTC"}},
    "groups": ["operator"], "created_at": MADE,
}  # fmt: skip
SERVER: JSON = {
    "id": ID, "name": "search", "transport": "http", "command": [],
    "url": "https://mcp.example.org/mcp", "variables": {}, "headers": {"X-Team": "shop"},
    "secrets": {"Authorization": "env:SEARCH_TOKEN"}, "folders": [], "network": False,
    "tools": ["search"], "timeout": 60, "connect_timeout": 10, "enabled": True,
    "groups": ["operator"], "created_at": MADE,
}  # fmt: skip
MODEL: JSON = {
    "id": ID, "name": "qwen2.5-coder:7b", "protocol": "ollama", "endpoint": "http://gpu1:11434",
    "model": "", "num_ctx": 32768, "temperature": None, "keep_alive": "30m", "secret": "",
    "parallel": 2, "max_requests": 60, "max_tool_calls": 300, "max_tokens": 400_000,
    "max_files": 50, "max_bytes": 1_048_576, "request_timeout": 300, "enabled": True,
    "created_at": MADE,
}  # fmt: skip
ENDED: JSON = {"queued": 0, "running": 0, "succeeded": 41, "failed": 1, "cancelled": 0}
FIGURES: JSON = {
    "totals": {"state": ENDED, "kind": {"test": ENDED}, "queue": {"tests": ENDED}},
    "throughput": [{"minute": MADE, "succeeded": 41, "failed": 1, "cancelled": 0}],
    "times": {
        "sample": 42, "wait": {"p50": 0.9, "p90": 2.4, "p99": 2.5},
        "run": {"p50": 0.1, "p90": 1.1, "p99": 1.4},
    },
    "workers": [
        {
            "name": WORKER, "backend": "database", "state": "running", "host": "build1",
            "queues": [], "kinds": ["mcp", "test", "validation"], "slots": 2, "running": 1,
            "sandbox": "bubblewrap", "started_at": MADE, "seen_at": FINISHED,
        },
    ],
    "queues": [QUEUE],
}  # fmt: skip
FINDING: JSON = {
    "ruleId": "F401", "level": "error", "message": {"text": "`os` imported but unused"},
    "locations": [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "shop/prices.py"},
                "region": {"startLine": 3, "startColumn": 8, "endLine": 3, "endColumn": 10},
            },
        },
    ],
    "properties": {"tool": "ruff", "check": "lint", "task": TASK_ID, "item": "0"},
}  # fmt: skip
SARIF: JSON = {
    "$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
    "runs": [
        {
            "tool": {"driver": {"name": "Ollama Coder"}}, "columnKind": "unicodeCodePoints",
            "automationDetails": {"id": f"Nightly/{ID}"}, "results": [FINDING],
            "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": []}],
        },
    ],
}  # fmt: skip
CSV = (
    "position,custom_id,variant,id,state,failure,attempt,result,error,started_at,finished_at\r\n"
    f'0,0,,{TASK_ID},failed,rejected,1,"{{""ok"": false}}","{REASON}",{STARTED},{FINISHED}\r\n'
)
JUNIT = f"""\
<?xml version="1.0" encoding="utf-8"?>
<testsuites name="Nightly">
<testsuite name="tests/test_basket.py" tests="1" failures="1" errors="0" skipped="0" time="0.002" \
timestamp="{STARTED}">
<properties><property name="task" value="{TASK_ID}"/><property name="item" value="0"/>\
<property name="state" value="failed"/></properties>
<testcase classname="tests/test_basket.py" name="test_total" time="0.002">\
<failure message="assert 12 == 10"/></testcase>
</testsuite>
</testsuites>
"""
METRICS = """\
# HELP ollama_coder_tasks Tasks, the deleted ones not counted.
# TYPE ollama_coder_tasks gauge
ollama_coder_tasks{kind="test",queue="tests",state="failed"} 1.0
"""
WRONG: JSON = {"workspace": "shop", "targets": [{"path": "src", "timeout": 0}]}
PROBLEM: JSON = {
    "type": "about:blank", "title": "Bad Request", "status": 400,
    "detail": "targets[0].timeout: Ensure this value is greater than or equal to 1.",
    "instance": "/batch/validation",
    "errors": [
        {
            "field": "targets[0].timeout",
            "message": "Ensure this value is greater than or equal to 1.",
        },
    ],
}  # fmt: skip
"""What is answered to ``WRONG``."""

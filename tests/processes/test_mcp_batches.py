"""Batches of MCP operations in a real worker, on servers that nobody here wrote."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from batches import operations
from batches.models import McpServer, Task
from batches.states import TaskState
from tests.mcp_servers import HttpServer, NpmServers, everything, npm_servers, servers_on
from tests.patience import PATIENCE
from tests.processes.fleet import Fleet, done, submit, task_of, until

__all__ = ["npm_servers"]

pytestmark = pytest.mark.long


@pytest.fixture
def folder() -> Iterator[Path]:
    """A workspace that every user can reach, which tmp_path is not for root."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made).resolve()
        root.chmod(0o777)
        (root / "a.txt").write_text("hello\n")
        yield root


@pytest.fixture
def workspace(standing: Fleet, folder: Path) -> str:
    User.objects.create_superuser("tester")
    row = operations.add_workspace("w", folder)
    return row.name


@pytest.fixture
def every(npm_servers: NpmServers) -> Iterator[HttpServer]:
    with everything(npm_servers) as server:
        operations.add_mcp_server("every", url=server.url)
        yield server


@pytest.fixture
def files(npm_servers: NpmServers) -> str:
    told = npm_servers.filesystem()
    operations.add_mcp_server("files", command=told["command"], folders=told["folders"])
    return "files"


def test_a_thousand_operations_on_two_servers_one_of_them_killed_meanwhile(
    workspace: str, folder: Path, files: str, every: HttpServer
) -> None:
    read = {"server": files, "tool": "read_text_file", "arguments": {"path": f"{folder}/a.txt"}}
    echo = {"server": "every", "tool": "echo", "arguments": {"message": "hi"}}
    wrong = [
        {"server": files, "tool": "nonesuch"},
        {"server": files, "tool": "read_text_file", "arguments": {"path": "/etc/passwd"}},
        {"server": "every", "tool": "echo", "arguments": {"massage": 1}},
        {"server": "every", "tool": "nonesuch"},
    ]
    batch = submit("mcp", *[read, echo] * 498, *wrong, workspace=workspace)
    finished = Task.objects.filter(batch=batch, state=TaskState.SUCCEEDED)
    until(lambda: finished.count() > 200, what="a part is done")
    every.kill()
    threading.Timer(0.5, every.start).start()
    summary = done(batch, within=3 * PATIENCE).summary
    assert summary == {
        "succeeded": 996,
        "failed": 4,
        "cancelled": 0,
        "failures": {"rejected": 4},
    }, list(Task.objects.filter(batch=batch, state="failed").values_list("failure", "error"))
    texts = Counter(
        task.result["content"][0]["text"] for task in Task.objects.filter(state="succeeded")
    )
    assert texts == {"hello\n": 498, "Echo: hi": 498}
    errors = [task_of(batch, position).error for position in range(996, 1000)]
    for error, words in zip(
        errors,
        ("Tool nonesuch", "Access denied", "Invalid arguments", "Tool nonesuch"),
        strict=True,
    ):
        assert words in error


@pytest.mark.either
def test_what_changes_about_a_server_reaches_the_slots(
    workspace: str, folder: Path, files: str
) -> None:
    (server,) = McpServer.objects.all()
    listing = {"server": files, "tool": "list_allowed_directories"}
    first = done(submit("mcp", listing, workspace=workspace))
    assert str(folder) in task_of(first).result["content"][0]["text"]
    operations.change_mcp_server(server, tools=["read_text_file"])
    second = task_of(done(submit("mcp", listing, workspace=workspace)))
    assert (second.failure, second.error[:40]) == (
        "rejected",
        "the console does not allow the tool 'lis",
    )
    operations.change_mcp_server(server, tools=None, secrets={"KEY": "file:/nonesuch/key"})
    third = submit("mcp", listing, workspace=workspace)
    until(lambda: task_of(third).waiting_for == f"mcp:{files}", what="it waits for the secret")
    operations.change_mcp_server(server, secrets={})
    assert task_of(done(third)).state == TaskState.SUCCEEDED


@pytest.mark.either
def test_no_server_outlives_the_slot_that_started_it(
    workspace: str, folder: Path, files: str, standing: Fleet
) -> None:
    done(submit("mcp", {"server": files, "tool": "list_allowed_directories"}, workspace=workspace))
    assert len(servers_on(folder)) == 1
    (worker,) = standing.workers
    for pid in worker.slots():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not servers_on(folder), what="the server is gone")
    until(lambda: len(worker.slots()) == 2, what="the slots are there again")


@pytest.mark.either
def test_the_short_forms_need_no_server(workspace: str, folder: Path) -> None:
    write = {"type": "write", "path": "b.txt", "content": "new"}
    batch = done(submit("mcp", write, {"type": "list"}, workspace=workspace, parallel=1))
    assert (folder / "b.txt").read_text() == "new"
    names = [entry["name"] for entry in task_of(batch, 1).result["structured"]["entries"]]
    assert {"a.txt", "b.txt"} <= set(names)

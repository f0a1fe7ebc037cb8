"""MCP operations on the built-in server and on servers from npm, over stdio and HTTP."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agents.contract import (
    JSON,
    Environment,
    Lost,
    Outcome,
    Rejected,
    StillAway,
    Succeeded,
    TimedOut,
    Unavailable,
    Workspace,
)
from agents.processors.mcp_operation import OperationProcessor
from agents.sandbox import Held
from tests.agents.conftest import RecordingContext
from tests.mcp_servers import HttpServer, NpmServers, everything, npm_servers, servers_on

__all__ = ["npm_servers"]

pytestmark = pytest.mark.long

DYING = Path(__file__).resolve().parent.parent / "mcp_dying_server.py"


@dataclass
class EffectsContext(RecordingContext):
    effects: list[str] = field(default_factory=list)

    def effect(self, name: str, *, exclusive: bool = False) -> None:
        self.effects.append(name)


@dataclass
class Console:
    """One slot's processor, the servers it is told of, and a workspace."""

    folder: Path
    workspace: Workspace | None
    servers: JSON = field(default_factory=dict)
    processor: OperationProcessor = field(default_factory=OperationProcessor)
    context: EffectsContext = field(init=False)

    def do(self, **payload: Any) -> Outcome:
        settings = {"mcp_servers": self.servers}
        self.context = EffectsContext(self.folder, self.workspace, settings)
        checked = self.processor.validate(payload, settings)
        return self.processor.run(checked, self.context)

    def probe(self, name: str) -> bool:
        return self.processor.probe(f"mcp:{name}", {"mcp_servers": self.servers})


@pytest.fixture(scope="module")
def processor() -> Iterator[OperationProcessor]:
    """One for all: its sessions stay open between tests, as between the tasks of a slot.

    Closed afterwards: as root, the limit on processes counts those of every sandbox of a process.
    """
    made = OperationProcessor()
    yield made
    if made._operator:
        for session in made._operator._sessions._open.values():
            session.close()


@pytest.fixture
def console(bubblewrap: Held, processor: OperationProcessor, root: Path, tmp_path: Path) -> Console:
    (root / "a.txt").write_text("hello\n")
    return Console(tmp_path, Workspace("w", root, Environment()), processor=processor)


@pytest.fixture
def http(npm_servers: NpmServers, console: Console) -> Iterator[HttpServer]:
    with everything(npm_servers) as server:
        console.servers["every"] = {"transport": "http", "url": server.url}
        yield server


@pytest.fixture(scope="module")
def crooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace with links that lead where nothing may go; its server is started once."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret").write_text("secret")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder).resolve()
        made.chmod(0o777)
        (made / "a.txt").write_text("hello\n")
        (made / "out").symlink_to(outside)
        (made / "link").symlink_to("a.txt")
        (made / ".git" / "hooks").mkdir(parents=True)
        (made / "to-git").symlink_to(".git")
        yield made


def text_of(outcome: Outcome) -> str:
    assert isinstance(outcome, (Succeeded, Rejected)), outcome
    text: str = outcome.result["content"][0]["text"]
    return text


def test_the_short_forms_work_on_the_workspace(console: Console, root: Path) -> None:
    listed = console.do(type="list")
    assert isinstance(listed, Succeeded)
    assert listed.result["structured"] == {
        "path": ".",
        "entries": [{"name": "a.txt", "type": "file", "bytes": 6}],
        "total": 1,
    }
    assert console.context.sandboxes == ["bubblewrap"]
    read = console.do(type="read", path="a.txt")
    assert isinstance(read, Succeeded)
    assert read.result["structured"]["content"] == "hello\n"
    written = console.do(type="write", path="sub/b.txt", content="new")
    assert isinstance(written, Succeeded)
    assert (root / "sub/b.txt").read_text() == "new"
    # Writing the same again changes nothing, so the attempt may be run again.
    assert console.context.effects == []


def test_a_command_is_answered_by_its_exit_code_and_is_an_effect(console: Console) -> None:
    ran = console.do(type="command", command="python -m unittest nothing")
    assert isinstance(ran, Rejected)
    assert ran.reason == "python -m unittest nothing: exit code 1"
    assert "No module named 'nothing'" in ran.result["structured"]["output"]
    assert console.context.effects == ["filesystem: run_command"]
    assert isinstance(console.do(type="command", command="ruff check --isolated"), Succeeded)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"type": "read", "path": "gone.txt"}, "gone.txt does not exist"),
        ({"type": "read", "path": "out/secret"}, "does not exist in the workspace"),
        ({"type": "write", "path": "out/secret", "content": ""}, "out is not a folder of the"),
        ({"type": "write", "path": ".git/hooks/pre-commit", "content": ""}, "is not written"),
        ({"type": "write", "path": "to-git/hooks/x", "content": ""}, "is not written"),
        ({"type": "write", "path": "link", "content": ""}, "link is a link"),
        ({"type": "list", "path": "a.txt"}, "a.txt is not a folder"),
    ],
)
def test_the_built_in_server_stays_in_the_workspace(
    console: Console, crooked: Path, payload: JSON, words: str
) -> None:
    console.workspace = Workspace("crooked", crooked, Environment())
    outcome = console.do(**payload)
    assert isinstance(outcome, Rejected)
    assert words in outcome.reason
    assert (crooked / "out" / "secret").read_text() == "secret"
    assert list((crooked / ".git" / "hooks").iterdir()) == []


def test_the_built_in_server_wants_a_workspace(console: Console) -> None:
    console.workspace = None
    outcome = console.do(type="list")
    assert isinstance(outcome, Rejected)
    assert "the batch must name one" in outcome.reason


def test_a_stdio_server_answers_and_refuses_with_its_own_words(
    console: Console, npm_servers: NpmServers, root: Path
) -> None:
    console.servers["fs"] = npm_servers.filesystem()
    listed = console.do(type="list_tools", server="fs")
    assert isinstance(listed, Succeeded)
    assert "read_text_file" in {tool["name"] for tool in listed.result["tools"]}
    path = str(root / "a.txt")
    read = console.do(server="fs", tool="read_text_file", arguments={"path": path})
    assert text_of(read) == "hello\n"
    assert console.context.effects == []
    denied = console.do(server="fs", tool="read_text_file", arguments={"path": "/etc/passwd"})
    assert isinstance(denied, Rejected)
    assert denied.reason.startswith("Access denied")
    unknown = console.do(server="fs", tool="nonesuch")
    assert isinstance(unknown, Rejected)
    assert "Tool nonesuch not found" in unknown.reason
    wrong = console.do(server="fs", tool="read_text_file", arguments={"pth": 1})
    assert isinstance(wrong, Rejected)
    assert "Invalid arguments" in wrong.reason


def test_what_may_not_be_repeated_is_announced_before_it_is_called(
    console: Console, npm_servers: NpmServers, root: Path
) -> None:
    console.servers["fs"] = npm_servers.filesystem()
    path = str(root / "a.txt")
    (root / "a.txt").chmod(0o666)
    edits = [{"oldText": "hello", "newText": "bye"}]
    edited = console.do(server="fs", tool="edit_file", arguments={"path": path, "edits": edits})
    assert "bye" in text_of(edited)
    assert console.context.effects == ["fs: edit_file"]


def test_only_allowed_tools_are_shown_and_called(console: Console, npm_servers: NpmServers) -> None:
    console.servers["fs"] = npm_servers.filesystem(tools=["list_allowed_directories"])
    listed = console.do(type="list_tools", server="fs")
    assert isinstance(listed, Succeeded)
    assert [tool["name"] for tool in listed.result["tools"]] == ["list_allowed_directories"]
    refused = console.do(server="fs", tool="read_text_file", arguments={"path": "a.txt"})
    assert isinstance(refused, Rejected)
    assert "does not allow the tool 'read_text_file'" in refused.reason


def test_a_session_is_used_again_and_opened_anew_when_its_server_died(
    console: Console, npm_servers: NpmServers, root: Path
) -> None:
    console.servers["fs"] = npm_servers.filesystem(timeout=30)

    def ask() -> int:
        asked = console.do(server="fs", tool="list_allowed_directories")
        assert str(root) in text_of(asked)
        (pid,) = servers_on(root)
        return pid

    first = ask()
    assert ask() == first
    os.kill(first, signal.SIGKILL)
    assert ask() != first


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ({"command": ["/usr/bin/false"]}, "Connection closed"),
        ({"command": ["nonesuch"]}, "nonesuch is not installed"),
        ({"command": ["sleep", "60"], "connect_timeout": 1}, "did not answer within 1 s"),
        (
            {"command": ["ls", "/nonesuch"]},
            "cannot access '/nonesuch': No such file or directory",
        ),
        ({"transport": "http", "url": "http://127.0.0.1:9/mcp"}, "All connection attempts failed"),
        ({"command": ["x"], "problem": "env:KEY is not set"}, "env:KEY is not set"),
    ],
)
def test_a_server_that_cannot_be_reached_is_unavailable(
    console: Console, server: JSON, reason: str
) -> None:
    console.servers["away"] = {"transport": "stdio", **server}
    outcome = console.do(server="away", tool="x")
    assert isinstance(outcome, Unavailable)
    assert outcome.resource == "mcp:away"
    assert reason in outcome.reason
    with pytest.raises(StillAway, match=reason.partition(":")[0]):
        console.probe("away")


def test_a_server_that_is_reached_is_back(console: Console, npm_servers: NpmServers) -> None:
    console.servers["fs"] = npm_servers.filesystem()
    assert console.probe("fs")
    assert console.probe("filesystem")
    assert console.probe("removed meanwhile")


def test_variables_and_nothing_else_reach_a_server(console: Console) -> None:
    console.servers["env"] = {
        "transport": "stdio",
        "command": ["python", "-c", "import os, sys; sys.exit(repr(sorted(os.environ)))"],
        "variables": {"KEY": "value"},
    }
    outcome = console.do(server="env", tool="x")
    assert isinstance(outcome, Unavailable)
    names = {"HOME", "KEY", "LANG", "PATH", "PWD", "TMPDIR", "VIRTUAL_ENV", "LC_CTYPE"}
    told = outcome.reason[outcome.reason.index("[") :]
    assert "'KEY'" in told
    assert {word.strip("'") for word in told.strip("[]").split(", ")} <= names


def test_an_http_server_answers_and_refuses_with_its_own_words(
    console: Console, http: HttpServer
) -> None:
    assert text_of(console.do(server="every", tool="echo", arguments={"message": "hi"})) == (
        "Echo: hi"
    )
    wrong = console.do(server="every", tool="echo")
    assert isinstance(wrong, Rejected)
    assert "Invalid arguments for tool echo" in wrong.reason
    read = console.do(server="every", type="read_resource", uri="demo://resource/dynamic/text/1")
    assert isinstance(read, Succeeded)
    assert read.result["contents"][0]["text"].startswith("Resource 1")
    nothing = console.do(server="every", type="read_resource", uri="demo://nonesuch")
    assert isinstance(nothing, Rejected)
    assert "nonesuch" in nothing.reason


def test_calls_over_http_share_a_connection(console: Console, http: HttpServer) -> None:
    before = http.connections()
    for _ in range(20):
        done = console.do(server="every", tool="echo", arguments={"message": "hi"})
        assert isinstance(done, Succeeded)
    # One to listen on, one or two to ask over.
    assert len(http.connections() - before) < 6


def test_an_http_server_that_was_restarted_is_met_again(console: Console, http: HttpServer) -> None:
    def echo() -> Outcome:
        return console.do(server="every", tool="echo", arguments={"message": "hi"})

    assert isinstance(echo(), Succeeded)
    http.kill()
    assert isinstance(echo(), Unavailable)
    http.start()
    assert isinstance(echo(), Succeeded)
    http.kill()
    http.start()
    assert isinstance(echo(), Succeeded)


def test_a_server_killed_in_the_middle_is_asked_again_once_it_is_back(
    console: Console, http: HttpServer
) -> None:
    long = {"duration": 30, "steps": 30}
    threading.Timer(0.5, http.kill).start()
    outcome = console.do(server="every", tool="trigger-long-running-operation", arguments=long)
    assert isinstance(outcome, Unavailable)
    assert console.context.effects == []


@pytest.mark.parametrize(("tool", "calls", "effects"), [("change", 1, 1), ("look", 2, 0)])
def test_a_server_that_ends_before_it_answers_is_asked_again_only_where_that_does_no_harm(
    console: Console, root: Path, tool: str, calls: int, effects: int
) -> None:
    console.servers["dying"] = {
        "transport": "stdio",
        "command": ["python", str(DYING)],
        "folders": [str(DYING.parent)],
    }
    noted = root / "calls.txt"
    outcome = console.do(server="dying", tool=tool, arguments={"path": str(noted)})
    assert isinstance(outcome, Lost)
    assert outcome.reason.startswith("the server dying ended before it answered")
    assert noted.read_text().splitlines() == ["called"] * calls
    assert console.context.effects == [f"dying: {tool}"] * effects


def test_a_call_without_an_answer_is_given_up(console: Console, http: HttpServer) -> None:
    console.servers["every"]["timeout"] = 1
    long = {"duration": 30, "steps": 30}
    outcome = console.do(server="every", tool="trigger-long-running-operation", arguments=long)
    assert isinstance(outcome, TimedOut)
    assert "no answer within 1 s" in outcome.reason
    assert isinstance(
        console.do(server="every", tool="echo", arguments={"message": "hi"}), Succeeded
    )

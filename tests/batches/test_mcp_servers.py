"""MCP servers: what is stored of them, who may use them, and what slots are told."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client

from batches import mcp_servers, operations
from batches.models import Batch, McpServer, Task, Workspace
from batches.submission import InvalidSubmission
from tests.mcp_servers import NpmServers, everything, npm_servers

__all__ = ["npm_servers"]

pytestmark = pytest.mark.django_db

STDIO = {"command": ["server", "{workspace}"]}
HTTP = {"url": "https://example.org/mcp"}


def wrong_fields(**values: Any) -> dict[str, str]:
    with pytest.raises(InvalidSubmission) as refused:
        operations.add_mcp_server(values.pop("name", "x"), **values)
    assert not McpServer.objects.exists()
    return {error.field: error.message for error in refused.value.errors}


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({}, "command", "either a command"),
        (STDIO | HTTP, "command", "either a command"),
        ({"command": ["./server"]}, "command", "absolute path"),
        ({"command": ["a\0"]}, "command", "list of its words"),
        ({"command": "a 'b"}, "command", "cannot be read as a command line"),
        ({"url": "ftp://example.org"}, "url", "https://example.org/mcp"),
        ({"url": "http://[bad"}, "url", "https://example.org/mcp"),
        ({"url": "https://me:secret@example.org"}, "url", "no user and password"),
        (HTTP | {"headers": {"a b": "x"}}, "headers", "names of headers"),
        (HTTP | {"headers": {"A": "x\r\nB: y"}}, "headers", "line break"),
        (STDIO | {"variables": {"A-B": "x"}}, "variables", "names of variables"),
        (STDIO | {"secrets": {"A": "hunter2"}}, "secrets", "neither env:NAME nor file:/PATH"),
        (STDIO | {"secrets": {"A": "env:SECRET_KEY"}}, "secrets", "secret of the console"),
        (STDIO | {"folders": ["x"]}, "folders", "absolute paths"),
        (STDIO | {"tools": "all"}, "tools", "list of names"),
        (STDIO | {"timeout": 4000}, "timeout", "3300"),
        (STDIO | {"name": "Big Name"}, "name", "small letters"),
        (STDIO | {"name": "filesystem"}, "name", "built-in"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_stored(
    values: dict[str, Any], field: str, words: str
) -> None:
    assert words.lower() in wrong_fields(**values)[field].lower()


def test_the_console_s_own_files_are_no_secrets_of_a_server() -> None:
    own = f"file:{settings.DATA_DIR / 'secret_key'}"
    assert "console's own" in wrong_fields(**STDIO, secrets={"A": own})["secrets"]


def test_no_way_round_leads_to_the_console_s_own_files(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(settings.DATA_DIR)
    for path in (f"/tmp/..{settings.DATA_DIR}", str(link)):
        secret = wrong_fields(**STDIO, secrets={"A": f"file:{path}/secret_key"})
        assert "console's own" in secret["secrets"], path
        assert "console's own" in wrong_fields(**STDIO, folders=[path])["folders"], path
    assert "console's own" in wrong_fields(**STDIO, folders=["/"])["folders"]


def test_a_link_that_leads_elsewhere_by_now_is_not_followed(tmp_path: Path) -> None:
    link = tmp_path / "key"
    link.write_text("harmless")
    operations.add_mcp_server("x", **STDIO, secrets={"A": f"file:{link}"})
    link.unlink()
    link.symlink_to(settings.DATA_DIR / "secret_key")
    told = mcp_servers.processor_settings()["mcp_servers"]["x"]
    assert "console's own" in told["problem"]
    assert told["variables"] == {}


@pytest.mark.parametrize(
    ("text", "words"), [("a\nX-Other: b\n", "more than one line"), ("x" * 70_000, "65,536")]
)
def test_a_file_that_is_no_secret_is_a_problem(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    operations.add_mcp_server("x", **HTTP, secrets={"A": f"file:{file}"})
    assert words in mcp_servers.processor_settings()["mcp_servers"]["x"]["problem"]


def test_two_changes_of_different_fields_both_count() -> None:
    operations.add_mcp_server("x", **STDIO)
    one, other = McpServer.objects.get(), McpServer.objects.get()
    operations.change_mcp_server(one, timeout=5)
    operations.change_mcp_server(other, network=True)
    kept = McpServer.objects.get()
    assert (kept.timeout, kept.network) == (5, True)


def test_a_name_is_taken_once() -> None:
    operations.add_mcp_server("x", **STDIO)
    with pytest.raises(InvalidSubmission, match="taken"):
        operations.add_mcp_server("x", **HTTP)


def test_a_command_may_be_written_as_a_line() -> None:
    assert operations.add_mcp_server("x", command="npx 'a b'").command == ["npx", "a b"]


def test_a_row_has_a_command_or_an_address() -> None:
    for transport, fields in (("http", {}), ("stdio", HTTP), ("http", STDIO | HTTP)):
        with pytest.raises(IntegrityError), transaction.atomic():
            McpServer.objects.create(name="x", transport=transport, **fields)


def test_slots_are_told_of_enabled_servers_with_their_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, django_assert_num_queries: Any
) -> None:
    key = tmp_path / "key"
    key.write_text("hunter2\n")
    monkeypatch.setenv("TOKEN_OF_X", "hunter3")
    operations.add_mcp_server("x", **STDIO, secrets={"KEY": f"file:{key}"}, variables={"A": "1"})
    operations.add_mcp_server("y", **HTTP, secrets={"Authorization": "env:TOKEN_OF_X"})
    operations.add_mcp_server("z", **HTTP, enabled=False)
    with django_assert_num_queries(1):
        told = mcp_servers.processor_settings()["mcp_servers"]
    assert told.keys() == {"x", "y"}
    assert told["x"]["variables"] == {"A": "1", "KEY": "hunter2"}
    assert told["x"]["headers"] == {}
    assert told["y"]["headers"] == {"Authorization": "hunter3"}
    assert "hunter" not in json.dumps(list(McpServer.objects.values()), default=str)


@pytest.mark.parametrize("reference", ["env:NOT_THERE", "file:/nonesuch"])
def test_a_secret_that_is_not_there_is_told_as_a_problem(reference: str) -> None:
    operations.add_mcp_server("x", **STDIO, secrets={"KEY": reference})
    problem = mcp_servers.processor_settings()["mcp_servers"]["x"]["problem"]
    assert problem.startswith("the secret KEY cannot be read: ")
    assert reference.partition(":")[2] in problem


# -- naming a server in a batch


def post(client: Any, *items: dict[str, Any], **options: Any) -> Any:
    return client.post("/batch/mcp-operations", {"operations": list(items), **options})


def test_a_batch_names_only_servers_that_its_owner_may_use(
    client_of: Any, operator: Any, stranger: Any, red: Workspace, django_assert_max_num_queries: Any
) -> None:
    server = operations.add_mcp_server("reds", **STDIO, groups=red.groups.all())
    call = {"server": "reds", "tool": "x"}
    with django_assert_max_num_queries(60):
        taken = post(client_of(operator), *[call] * 300)
    assert taken.status_code == 202
    assert Task.objects.first().needs == ["mcp:reds"]
    refused = post(client_of(stranger), {"type": "list_tools", "server": "reds"}, call)
    assert refused.status_code == 400
    assert [error["field"] for error in refused.json()["errors"]] == [
        "operations[0].server",
        "operations[1].server",
    ]
    operations.change_mcp_server(server, enabled=False)
    assert post(client_of(operator), call).status_code == 400
    assert Batch.objects.count() == 1


def test_the_short_forms_want_a_workspace(client_of: Any, operator: Any, red: Workspace) -> None:
    client = client_of(operator)
    refused = post(client, {"type": "list"})
    assert [error["field"] for error in refused.json()["errors"]] == ["workspace"]
    assert post(client, {"type": "list"}, workspace="red").status_code == 202


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({}, "operations[0].server"),
        ({"server": "filesystem"}, "operations[0].tool"),
        ({"type": "dance"}, "operations[0].type"),
        ({"type": "read"}, "operations[0].path"),
        ({"type": "read", "path": "../x"}, "operations[0].path"),
        ({"type": "read", "path": "x", "server": "filesystem"}, "operations[0].server"),
        ({"type": "write", "path": "x"}, "operations[0].content"),
        ({"type": "command", "command": "rm -rf /"}, "operations[0].command"),
        ({"type": "read_resource", "server": "filesystem"}, "operations[0].uri"),
        ({"server": "filesystem", "tool": "x", "arguments": []}, "operations[0].arguments"),
        ({"server": "filesystem", "tool": "x", "path": "y"}, "operations[0].path"),
    ],
)
def test_a_wrong_operation_is_named(
    client_of: Any, operator: Any, red: Workspace, item: dict[str, Any], field: str
) -> None:
    refused = post(client_of(operator), item, workspace="red")
    assert refused.status_code == 400
    assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert not Batch.objects.exists()


# -- doors


def test_values_are_shown_to_admins_only(
    client_of: Any, admin: Any, viewer: Any, red: Workspace
) -> None:
    client = client_of(admin)
    body = {"name": "x", **HTTP, "headers": {"X-Key": "hunter2"}, "groups": ["red team"]}
    made = client.post("/batch/mcp-servers", body)
    assert made.status_code == 201
    assert client.get(made["Location"]).json()["headers"] == {"X-Key": "hunter2"}
    seen = client_of(viewer).get("/batch/mcp-servers").json()["results"]
    assert [server["headers"] for server in seen] == [{"X-Key": "…"}]
    changed = client.patch("/batch/mcp-servers/x", {"tools": ["echo"], "url": "http://localhost"})
    assert (changed.json()["tools"], changed.json()["url"]) == (["echo"], "http://localhost")
    wrong = client.patch("/batch/mcp-servers/x", {"url": "x"})
    assert [error["field"] for error in wrong.json()["errors"]] == ["url"]
    assert client.delete("/batch/mcp-servers/x").status_code == 204


def test_a_check_says_why_a_server_cannot_be_reached(client_of: Any, admin: Any) -> None:
    operations.add_mcp_server("x", url="http://127.0.0.1:9/mcp")
    answer = client_of(admin).post("/batch/mcp-servers/x/check").json()
    assert (answer["ok"], answer["reason"]) == (False, "All connection attempts failed")
    assert answer["tools"] is None


@pytest.mark.either
def test_a_check_tells_how_many_tools_a_server_has(
    client_of: Any, admin: Any, npm_servers: NpmServers
) -> None:
    with everything(npm_servers) as server:
        operations.add_mcp_server("every", url=server.url)
        answer = client_of(admin).post("/batch/mcp-servers/every/check").json()
        said = mcp("check", "every")
    assert (answer["ok"], answer["reason"], answer["tools"]) == (True, "", 13)
    assert said.startswith("every answers with 13 tools, after ")


def mcp(*arguments: str) -> str:
    out = StringIO()
    call_command("mcp", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_the_command_adds_lists_checks_and_removes(admin: Any, tmp_path: Path) -> None:
    Group.objects.get_or_create(name="red team")
    said = mcp(
        "add", "x", "--command", "/usr/bin/false {workspace}", "--secret", "KEY=env:HOME",
        "--tool", "read", "--folder", str(tmp_path), "--group", "red team", "--user", "admin",
    )  # fmt: skip
    assert said == "x is /usr/bin/false {workspace}\n"
    server = McpServer.objects.get()
    assert (server.command, server.tools) == (["/usr/bin/false", "{workspace}"], ["read"])
    assert (server.secrets, server.folders) == ({"KEY": "env:HOME"}, [str(tmp_path)])
    assert mcp("list") == "x  /usr/bin/false {workspace}\n"
    assert json.loads(mcp("list", "--json"))[0]["groups"] == ["red team"]
    with pytest.raises(CommandError, match="x cannot be reached: Connection closed"):
        mcp("check", "x")
    assert "no longer" in mcp("remove", "x", "--user", "admin")
    with pytest.raises(CommandError, match="There is no MCP server 'x'"):
        mcp("check", "x")
    with pytest.raises(CommandError, match="filesystem is the built-in server"):
        mcp("check", "filesystem")


def test_the_admin_stores_what_the_lines_say_and_shows_what_is_wrong(admin: Any) -> None:
    admin.is_staff = True
    admin.save()
    browser = Client()
    browser.force_login(admin)
    address = "/admin/batches/mcpserver/"
    form = {
        "name": "x", "url": "http://127.0.0.1:9/mcp", "headers": "X-Key=a=b\n", "timeout": "5",
        "connect_timeout": "3", "enabled": "on", "tools": "echo\nadd\n", "secrets": "T=secret",
    }  # fmt: skip
    refused = browser.post(f"{address}add/", form)
    assert b"neither env:NAME nor file:/PATH" in refused.content
    assert not McpServer.objects.exists()
    assert browser.post(f"{address}add/", form | {"secrets": "T=env:T"}).status_code == 302
    server = McpServer.objects.get()
    assert (server.headers, server.secrets) == ({"X-Key": "a=b"}, {"T": "env:T"})
    assert (server.tools, server.timeout) == (["echo", "add"], 5)
    page = f"{address}{server.pk}/change/"
    assert b"X-Key=a=b" in browser.get(page).content
    form |= {"secrets": "", "tools": ""}
    assert browser.post(page, form).status_code == 302
    server.refresh_from_db()
    assert (server.tools, server.secrets) == (None, {})
    action = {"action": "check", "_selected_action": [str(server.pk)]}
    checked = browser.post(address, action, follow=True)
    assert b"x cannot be reached: All connection attempts failed" in checked.content
    browser.post(f"{address}{server.pk}/delete/", {"post": "yes"})
    assert not McpServer.objects.exists()

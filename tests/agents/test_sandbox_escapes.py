"""What a command tries, and what bubblewrap lets it have."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from agents.bubblewrap import Mounts
from agents.sandbox import SandboxBroken
from tests.agents.conftest import Bench

MIB = 1024 * 1024


def test_the_password_file_cannot_be_read(bench: Bench) -> None:
    assert Path("/etc/shadow").exists()
    finished = bench.run("cat", "/etc/shadow")
    assert finished.exit_code == 1
    assert "No such file" in finished.output.text


def test_nothing_outside_the_view_exists(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("private")
    assert bench.run("cat", str(outside)).exit_code == 1
    finished = bench.run("sh", "-c", f"mkdir -p {tmp_path} && echo changed > {outside}")
    assert finished.exit_code == 0
    assert outside.read_text() == "private"


def test_a_symlink_that_leaves_the_workspace_leads_nowhere(bench: Bench, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("private")
    (bench.root / "link").symlink_to(secret)
    finished = bench.run("cat", str(bench.root / "link"))
    assert finished.exit_code == 1
    assert "private" not in finished.output.text


def test_a_read_only_view_cannot_be_changed(bench: Bench) -> None:
    kept = bench.root / "kept.txt"
    kept.write_text("as it was")
    kept.chmod(0o666)
    for attempt in ("echo x > kept.txt", "echo x > new.txt", "rm kept.txt", "chmod 600 kept.txt"):
        finished = bench.run("sh", "-c", attempt)
        assert finished.exit_code != 0, attempt
    assert kept.read_text() == "as it was"
    assert list(bench.root.iterdir()) == [kept]


def test_a_hidden_file_is_seen_empty_and_stays_as_it_is(bench: Bench) -> None:
    secret = bench.root / "inner" / "secret.txt"
    secret.parent.mkdir(mode=0o777)
    secret.parent.chmod(0o777)
    secret.write_text("private")
    secret.chmod(0o666)
    code = "wc -c < inner/secret.txt; for verb in 'rm' 'tee' 'truncate -s 1'; do"
    code += " $verb inner/secret.txt < /dev/null; echo $?; done; mv inner moved; wc -c moved/*"
    finished = bench.run("sh", "-c", code, writable=True, mounts=Mounts(hidden=[secret]))
    assert re.sub(r"\w+: .*\n", "", finished.output.text).split() == [
        "0", "1", "1", "1", "0", "moved/secret.txt",
    ]  # fmt: skip
    assert (bench.root / "moved" / "secret.txt").read_text() == "private"


def test_a_writable_view_can_be_changed(bench: Bench) -> None:
    assert bench.run("sh", "-c", "echo x > new.txt", writable=True).exit_code == 0
    assert (bench.root / "new.txt").read_text() == "x\n"


def test_the_loopback_of_the_machine_is_out_of_reach(bench: Bench) -> None:
    code = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        finished = bench.run("python", "-c", code, port)
        assert "ConnectionRefusedError" in finished.output.text
        assert bench.run("python", "-c", code, port, network=True).exit_code == 0


def test_a_command_has_a_loopback_of_its_own(bench: Bench) -> None:
    code = (
        "import socket; server = socket.create_server(('localhost', 0));"
        "socket.create_connection(server.getsockname()); print('connected')"
    )
    assert bench.run("python", "-c", code).output.text == "connected\n"


def test_a_fork_bomb_ends_at_the_limit(bench: Bench) -> None:
    code = """
import os, time
made = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except OSError as error:
    print(made, type(error).__name__)
"""
    finished = bench.run("python", "-c", code, max_processes=40)
    made, error = finished.output.text.split()
    assert error == "BlockingIOError"
    assert 20 < int(made) < 40


def test_no_user_namespace_can_be_made_inside(bench: Bench) -> None:
    finished = bench.run("unshare", "--user", "true")
    assert finished.exit_code == 1
    assert "unshare failed" in finished.output.text


def test_a_command_is_never_root_and_has_no_way_back(bench: Bench) -> None:
    status = bench.run("cat", "/proc/self/status").output.text
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in fields["Uid"].split()
    assert fields["NoNewPrivs"] == "1"
    assert int(fields["CapBnd"], 16) == 0
    read_search = 1 << 2
    assert int(fields["CapEff"], 16) in {0, read_search}


def test_other_processes_cannot_be_seen(bench: Bench) -> None:
    finished = bench.run("sh", "-c", "ls -d /proc/[0-9]*")
    assert len(finished.output.text.split()) <= 4


def test_a_workspace_only_its_owner_may_enter_can_be_read(bench: Bench) -> None:
    (bench.root / "private.txt").write_text("read")
    (bench.root / "private.txt").chmod(0o600)
    bench.root.chmod(0o700)
    assert bench.run("cat", "private.txt").output.text == "read"


def test_the_environment_is_built_from_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "not for children")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    listed = bench.run("env", variables={"GIVEN": "yes"}).output.text
    names = {line.split("=")[0] for line in listed.splitlines()}
    assert names - {"VIRTUAL_ENV"} == {"PATH", "HOME", "LANG", "TMPDIR", "PWD", "GIVEN"}


def test_variables_are_not_shown_to_users_of_the_machine(bench: Bench) -> None:
    lines: list[str] = []

    def look(_output: object) -> None:
        for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                lines.append(cmdline.read_text(errors="replace"))
            except OSError:
                continue

    bench.run("sleep", "0.4", variables={"TOKEN": "hunter2-in-a-variable"}, watch=look)
    assert any("sleep\x000.4" in line for line in lines)
    assert not any("hunter2-in-a-variable" in line for line in lines)


def test_home_and_tmp_are_private_and_writable(bench: Bench) -> None:
    code = "cd; echo x > file; echo y > $TMPDIR/file; cat ~/file $TMPDIR/file"
    assert bench.run("sh", "-c", code).output.text.split() == ["x", "y"]


def test_shared_memory_works(bench: Bench) -> None:
    code = "import multiprocessing; multiprocessing.Lock(); print('made')"
    assert bench.run("python", "-c", code).output.text == "made\n"


def test_a_sandbox_that_cannot_be_built_is_not_taken_for_the_command(bench: Bench) -> None:
    missing = Mounts(visible=[bench.root.parent / "missing-folder"])
    with pytest.raises(SandboxBroken, match="missing-folder"):
        bench.run("true", mounts=missing)


def test_private_keys_of_the_machine_are_not_there(bench: Bench) -> None:
    finished = bench.run("ls", "/etc/ssl")
    assert finished.exit_code == 0
    assert set(finished.output.text.split()) <= {"certs", "openssl.cnf"}

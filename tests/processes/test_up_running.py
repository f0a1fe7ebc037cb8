"""One `up` on SQLite, without a sandbox, for all tests that leave it running."""

import os
import re
import signal
import urllib.error
from collections.abc import Iterator

import pytest

from tests.processes.installation import Installation, ended_afterwards, until

pytestmark = pytest.mark.either


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One that is up, on SQLite and without a sandbox, for tests that leave it so."""
    with ended_afterwards(Installation(tmp_path_factory.mktemp("running"), "")) as made:
        made.environment["PATH"] = "/nowhere"
        made.start()
        yield made


def test_children_that_are_killed_are_started_again(running):
    worker, web = running.process("manage.py worker"), running.process("gunicorn")

    os.kill(worker, signal.SIGKILL)
    running.until_said("The worker process was killed by SIGKILL. Starting it again")
    os.kill(web, signal.SIGKILL)
    running.until_said("The web process was killed by SIGKILL. Starting it again")

    done = running.submit({"kind": "noop", "items": [{}] * 20}, "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "20/20 completed"
    until(lambda: running.answers)
    batch = running.get(running.token, f"/batch/{done.stdout.strip()}")
    assert batch["status"] == "completed"


def test_submit_waits_and_says_what_failed(running):
    done = running.submit(
        {"kind": "misbehave", "items": [{"id": "bad", "how": "reject"}, {"how": "artefact"}]},
        "--wait",
    )

    assert done.returncode == 1
    assert re.fullmatch(r"[0-9a-f-]{36}\n", done.stdout)
    assert "bad: rejected: no" in done.stderr


def test_a_machine_without_a_sandbox_is_said_loudly_or_refused(running, tmp_path):
    assert "** Commands of tasks are NOT ISOLATED" in running.said
    assert "apt-get install bubblewrap" in running.said

    installation = Installation(tmp_path, "")
    installation.environment |= {"PATH": "/nowhere", "REQUIRE_SANDBOX": "true"}
    refused = installation.command("up", "--port", str(installation.port))
    assert refused.returncode == 1
    assert "REQUIRE_SANDBOX is true, but bubblewrap is not installed" in refused.stderr


def test_a_second_up_on_the_same_data_is_refused(running):
    second = running.command("up", "--port", "1")

    assert second.returncode == 1
    assert f"Another `up` (process {running.up.pid} on http://127.0.0.1:" in second.stderr


def test_an_address_that_is_too_long_is_refused_as_the_document_says(running):
    with pytest.raises(urllib.error.HTTPError) as refused:
        running.get(running.token, "/batch?text=" + "x" * 4100)

    assert refused.value.code == 414
    told = running.get(running.token, "/schema")["paths"]["/batch"]["get"]["responses"]["414"]
    assert refused.value.headers.get_content_type() in told["content"]

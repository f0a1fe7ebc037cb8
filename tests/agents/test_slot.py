"""The slot process, spoken to over its socket as a supervisor does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.attempt import clean, loggable
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


class Talk:
    """One slot process and the other end of its socket."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.socket, child = socket.socketpair()
        self.socket.settimeout(20)
        with child:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agents.slot"],
                stdin=child.fileno(),
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        self._lines = self.socket.makefile("rb")
        self.say(op="configure", settings={"colour": "blue"}, scratch=str(scratch))
        assert self.hear()["event"] == "ready"

    def say(self, **message: Any) -> None:
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        return json.loads(self._lines.readline())

    def run(self, name: str, task: str = "t1", **more: Any) -> None:
        job = {"attempt": 1, "timeout": 60, "lease": 60, "workspace": None, "payload": {}}
        self.say(op="run", id=task, processor=f"tests.processors.{name}", **{**job, **more})

    def ended(self) -> int:
        return self.process.wait(timeout=PATIENCE)

    def close(self) -> None:
        self._lines.close()
        self.socket.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[Talk]:
    talk = Talk(tmp_path)
    yield talk
    talk.close()


def misbehave(slot: Talk, how: str, **payload: Any) -> dict[str, Any]:
    slot.run("Misbehave", payload={"how": how, **payload})
    return slot.hear()


def test_it_runs_jobs_one_after_the_other(slot):
    for number in range(3):
        slot.run("Nothing", f"t{number}")
    answers = [slot.hear() for _ in range(3)]
    assert [answer["id"] for answer in answers] == ["t0", "t1", "t2"]
    assert all(answer["outcome"] == "succeeded" for answer in answers)


def test_an_exception_is_an_error_with_its_trace(slot):
    answer = misbehave(slot, "raise")
    assert answer["outcome"] == "error"
    assert "broken on purpose" in answer["error"]
    assert answer["interrupted"]


def test_a_result_that_is_not_json_is_an_error(slot):
    answer = misbehave(slot, "not json")
    assert answer["outcome"] == "error"
    assert "JSON" in answer["error"]


def test_text_that_no_database_keeps_is_made_storable(slot):
    assert misbehave(slot, "nasty text")["result"] == {
        "x": "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"
    }


def test_a_very_large_result_becomes_a_file(slot):
    announced = misbehave(slot, "huge")
    assert (announced["event"], announced["name"]) == ("artefact", "result.json")
    answer = slot.hear()
    assert answer["result"]["artefact"] == "result.json"
    assert len(json.loads(Path(announced["path"]).read_text())["x"]) == 2_000_000


def test_it_asks_to_be_replaced_after_so_many_tasks(slot):
    assert [misbehave(slot, "reject")["recycle"] for _ in range(3)] == [False, False, True]


def test_it_gives_back_what_it_has_not_begun(slot):
    slot.run("Sleep", "first", payload={"seconds": 0.5})
    assert slot.hear()["event"] == "log"
    slot.run("Nothing", "second")
    slot.run("Nothing", "third")
    slot.say(op="recall")
    assert slot.hear() == {"event": "recalled", "ids": ["second", "third"]}
    assert slot.hear()["id"] == "first"
    slot.run("Nothing", "fourth")
    assert slot.hear()["id"] == "fourth"


def test_an_effect_waits_for_the_supervisors_word(slot):
    slot.run("Misbehave", payload={"how": "effect, then die"})
    wish = {"event": "effect", "id": "t1", "name": "changing something", "exclusive": False}
    assert slot.hear() == wish
    slot.say(op="effect", granted=False)
    answer = slot.hear()
    assert answer["outcome"] == "error"
    assert "EffectRefused" in answer["error"]


def test_an_effect_is_asked_for_again_while_another_has_the_workspace(slot):
    slot.run("Misbehave", payload={"how": "effect, then die"})
    for _ in range(2):
        assert slot.hear()["event"] == "effect"
        slot.say(op="effect", granted=False, busy=True)
    slot.hear()
    slot.say(op="effect", granted=True)
    assert slot.ended() == 3


def test_a_granted_effect_is_carried_out(slot):
    slot.run("Misbehave", payload={"how": "effect, then die"})
    slot.hear()
    slot.say(op="effect", granted=True)
    assert slot.ended() == 3


def test_it_dies_when_its_supervisor_does(slot):
    slot.run("Sleep", payload={"seconds": 60})
    slot.hear()
    slot.socket.shutdown(socket.SHUT_RDWR)
    assert slot.ended() == -signal.SIGKILL


def test_it_ends_quietly_when_it_has_nothing_to_do(slot):
    slot.socket.shutdown(socket.SHUT_RDWR)
    assert slot.ended() == 0


def test_it_dies_when_its_lease_is_not_renewed(slot):
    slot.run("Sleep", payload={"seconds": 60}, lease=0.3)
    slot.hear()
    assert slot.ended() == -signal.SIGKILL


def test_a_renewal_keeps_it_alive(slot):
    slot.run("Sleep", payload={"seconds": 1.5}, lease=0.7)
    slot.hear()
    end = time.monotonic() + 1.4
    while time.monotonic() < end:
        slot.say(op="renewed", lease=0.7)
        time.sleep(0.1)
    assert slot.hear()["outcome"] == "succeeded"


def test_it_probes_a_resource(slot, tmp_path):
    there, away = tmp_path / "there", tmp_path / "away"
    there.touch()
    for path, back in ((there, True), (away, False)):
        slot.say(op="probe", resource=f"file:{path}", processor="tests.processors.Misbehave")
        answer = slot.hear()
        assert (answer["event"], answer["back"]) == ("probe", back)


def test_a_processor_that_cannot_be_imported_is_an_error(slot):
    slot.run("Missing")
    answer = slot.hear()
    assert answer["outcome"] == "error"
    assert "Missing" in answer["error"]


def test_cleaning_keeps_everything_that_can_be_stored():
    text = "emoji 😀 and ünïcode"
    assert clean({"a": [text, 1, None, 2.5, True], "b": {"c\0": "\udc80"}}) == {
        "a": [text, 1, None, 2.5, True],
        "b": {"c\N{REPLACEMENT CHARACTER}": "\N{REPLACEMENT CHARACTER}"},
    }


def test_a_log_line_is_made_storable():
    assert loggable({"x": float("nan"), "y": 1}) == {"x": "nan", "y": "1"}
    assert loggable({"x": "a" * 100_000})["cut"] is True
    assert len(loggable({"x": "a" * 100_000})["text"]) == 16_000
    assert loggable({"x": "\ud800", "when": Path("/x")}) == {
        "x": "\N{REPLACEMENT CHARACTER}",
        "when": "/x",
    }


def test_a_new_job_does_not_prolong_the_lease_of_the_running_one(slot):
    slot.run("Sleep", payload={"seconds": 60}, lease=0.5)
    slot.hear()
    slot.run("Nothing", "t2", lease=60)
    assert slot.ended() == -signal.SIGKILL

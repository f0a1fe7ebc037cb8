"""Results from the command line."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from contextlib import suppress
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command

from batches.exports import tabular
from batches.states import AttemptOutcome
from batches.submission import Item

pytestmark = pytest.mark.django_db

SUCCEEDED, REJECTED = AttemptOutcome.SUCCEEDED, AttemptOutcome.REJECTED


def results(*arguments: object) -> str:
    out = io.StringIO()
    call_command("results", *map(str, arguments), stdout=out)
    return out.getvalue()


@pytest.fixture
def batch(make_batch, operator, finish):
    made = make_batch(operator, 5)
    finish(SUCCEEDED, REJECTED, SUCCEEDED, result={"x": "é"}, error="")
    return made


def test_json_lines_are_the_default(batch):
    rows = [json.loads(line) for line in results(batch.pk).splitlines()]
    assert [row["position"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[0]["result"] == {"x": "é"}


def test_csv_of_some_states(batch):
    states = "--state", "failed", "--state", "queued"
    rows = list(csv.DictReader(io.StringIO(results(batch.pk, "--format", "csv", *states))))
    assert [row["state"] for row in rows] == ["failed", "queued", "queued"]


def test_every_format_is_written_as_the_api_does(make_batch, operator, red, client_of):
    client = client_of(operator)
    for kind, form, address in (
        ("validation", "sarif", "sarif"),
        ("test", "junit", "junit"),
        ("noop", "csv", "results?format=csv"),
        ("noop", "jsonl", "results"),
    ):
        items = [Item({"path": "a.py"})]
        batch = make_batch(operator, items=items, kind=kind, workspace="red")
        answered = b"".join(client.get(f"/batch/{batch.pk}/{address}").streaming_content)
        assert results(batch.pk, "--format", form) == answered.decode()


def test_a_file_takes_its_place_whole(batch, tmp_path, capfd):
    target = tmp_path / "out.csv"
    target.write_text("old")
    link = tmp_path / "link"
    link.symlink_to(target)
    assert results(batch.pk, "--format", "csv", "--output", link) == ""
    assert target.read_bytes().decode() == results(batch.pk, "--format", "csv")
    assert link.is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"out.csv", "link"}
    # No bar where nobody watches.
    assert capfd.readouterr().err == ""


def test_a_file_stays_as_it_was_when_the_writing_ends_early(batch, tmp_path, monkeypatch):
    def broken(name: str, value: object) -> object:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(tabular, "_cell", broken)
    target = tmp_path / "out.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"):
        results(batch.pk, "--format", "csv", "--output", target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_terminal_is_shown_how_far_it_is(batch, tmp_path, monkeypatch):
    terminal, ours = os.openpty()
    with os.fdopen(ours, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        results(batch.pk, "--output", tmp_path / "out.jsonl", "--state", "queued")
    shown = b""
    with suppress(OSError):  # what a terminal says once the other side has closed it
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    assert "2/2" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())


@pytest.mark.parametrize("name", ["missing/out.csv", "."])
def test_a_place_that_takes_no_file_is_said_in_a_sentence(batch, tmp_path, name):
    with pytest.raises(CommandError, match=r"cannot be written: .+\.$"):
        results(batch.pk, "--output", tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_beginning_of_an_id_is_enough(operator, make_batch):
    batch = make_batch(operator, 1)
    beginning = str(batch.pk)[:20]
    assert json.loads(results(beginning))["position"] == 0
    assert results(beginning) == results(batch.pk)


def test_a_batch_that_is_not_there_is_said_in_a_sentence(db):
    missing = UUID(int=7)
    with pytest.raises(CommandError, match=rf"^There is no batch {missing}\.$"):
        results(missing)


def test_a_format_that_does_not_fit_is_refused_before_a_file_is_made(batch, tmp_path):
    for arguments in ((), ("--output", tmp_path / "out")):
        with pytest.raises(CommandError, match="Only batches of kind test have test results"):
            results(batch.pk, "--format", "junit", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_seen_enough_ends_it_quietly(batch, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        with pytest.raises(SystemExit):
            call_command("results", str(batch.pk))

"""The test results of a batch as one JUnit XML."""

from __future__ import annotations

from io import BytesIO
from xml.etree import ElementTree as ET

import pytest
from django.core.files.base import ContentFile

from agents.capture import Output
from agents.junit import write_junit
from agents.tally import Case
from batches.exports import Selection, junit, reports
from batches.models import Artefact, Task
from batches.states import AttemptOutcome
from batches.submission import Item

pytestmark = pytest.mark.django_db

SUCCEEDED, REJECTED, ERROR = (
    AttemptOutcome.SUCCEEDED,
    AttemptOutcome.REJECTED,
    AttemptOutcome.ERROR,
)
ODD = 'a\0\x1b[31m<&>"\ufffe]]>\n'


@pytest.fixture
def client(client_of, viewer):
    return client_of(viewer)


@pytest.fixture
def tested(make_batch, operator, red):
    """A batch of test tasks, one for each path."""

    def make(*paths: str, **fields):
        items = [Item({"path": path}, id=f"t{n}") for n, path in enumerate(paths)]
        return make_batch(
            operator, items=items, kind="test", workspace="red", max_attempts=1, **fields
        )

    return make


@pytest.fixture
def keep(db):
    """Stores a report of a task's first attempt."""
    kept = []

    def store(task: Task, content: bytes) -> Artefact:
        file = ContentFile(content, "junit.xml")
        fields = {"name": "junit.xml", "media_type": "application/xml", "size": len(content)}
        kept.append(Artefact.objects.create(task=task, attempt=1, file=file, **fields))
        return kept[-1]

    yield store
    for artefact in kept:
        artefact.file.delete(save=False)


def report(tmp_path, *cases: Case) -> bytes:
    write_junit(tmp_path / "junit.xml", "suite", cases, 1.5)
    return (tmp_path / "junit.xml").read_bytes()


def printed(head: str, tail: str = "") -> dict:
    """Output of a command, of which the middle is left out if there is a tail."""
    return Output(head, tail, 9, truncated=bool(tail)).as_json()


def held(*cases: dict, **fields) -> dict:
    """A result of pytest."""
    return {
        "path": "tests", "ok": True, "command": "pytest -v tests", "exit_code": 0,
        "output": printed(""), "seconds": 2.0, "counts": {}, "total": len(cases),
        "cases": list(cases), "cases_truncated": False, "running": None, **fields,
    }  # fmt: skip


def suites_of(text: str) -> list[ET.Element]:
    """The suites, whose numbers are those of their cases."""
    root = ET.fromstring(text.encode())
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite"
        assert suite.get("name")
        cases = suite.findall("testcase")
        assert all(case.get("name") and case.get("classname") is not None for case in cases)
        assert suite.get("tests") == str(len(cases))
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped",) * 2):
            assert suite.get(attribute) == str(sum(case.find(tag) is not None for case in cases))
        assert suite.get("time") == f"{sum(float(case.get('time')) for case in cases):.3f}"
    return list(root)


def asked(client, batch) -> list[ET.Element]:
    response = client.get(f"/batch/{batch.pk}/junit")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/xml; charset=utf-8"
    assert f'"{batch.pk}.xml"' in response.headers["Content-Disposition"]
    return suites_of(b"".join(response.streaming_content).decode())


def tags(suite: ET.Element) -> list[tuple[str, str]]:
    """Name of each case and what it holds."""
    return [
        (case.get("name", ""), "+".join(part.tag for part in case))
        for case in suite.findall("testcase")
    ]


def test_the_kept_reports_are_the_suites(client, tested, finish, keep, tmp_path):
    batch = tested("tests/test_a.py", "tests/test_b.py", name=f"n {ODD}".replace("\0", ""))
    finish(REJECTED, result=held(), error="1 failed, 1 error of 4")
    finish(SUCCEEDED, result=held())
    first, second = Task.objects.filter(batch=batch).order_by("position")
    red = Case("tests/test_a.py::T::test_no", "failed", 0.25, ODD, ODD)
    broken = Case("tests/test_a.py::test_x", "error", 0.25, "boom", "trace")
    left = Case("tests/test_a.py::test_s", "skipped", 0, "why")
    good = Case(f"tests/test_a.py::test_p[{ODD}]", "passed", 0.5)
    keep(first, report(tmp_path, red, broken, left, good))
    keep(second, report(tmp_path, Case("tests/test_b.py::test_é", "passed", 0.5)))
    one, two = asked(client, batch)
    assert (one.get("name"), two.get("name")) == ("tests/test_a.py", "tests/test_b.py")
    assert [what for _, what in tags(one)] == ["failure", "error", "skipped", ""]
    assert one.get("time") == "1.000"
    failure = one.find("testcase/failure")
    assert failure.text == 'a\ufffd\ufffd[31m<&>"\ufffd]]>\n'
    assert failure.get("message") == failure.text
    assert one.find("testcase").get("classname") == "tests.test_a.T"
    assert tags(two) == [("test_é", "")]
    named = {each.get("name"): each.get("value") for each in two.find("properties")}
    assert named == {"task": str(second.pk), "item": "t1", "state": "succeeded"}


def test_without_a_report_the_result_is_used(client, tested, finish):
    batch = tested("tests")
    words = {"message": ODD.replace("\0", ""), "text": "x\x1b"}
    case = {"id": "tests/t.py::test_no[\x1b]", "outcome": "failed", "seconds": 0.1, **words}
    finish(REJECTED, result=held(case, cases_truncated=True), error="1 failed")
    [suite] = asked(client, batch)
    assert [what for _, what in tags(suite)] == ["failure"]
    assert "cannot be read (it is not kept any more)" in suite.find("system-err").text


def test_a_task_that_failed_is_never_all_green(client, tested, finish, keep, tmp_path):
    batch = tested("lost", "none", "covered", "late", "command", "gone")
    finish(ERROR, error=f"the slot died {ODD}".replace("\0", ""))
    finish(
        REJECTED, result=held(output=printed("nothing")), error="no tests were collected in none"
    )
    passed = {"id": "t.py::test_a", "outcome": "passed", "seconds": 0.1}
    finish(REJECTED, result=held(passed), error="pytest: exit code 2")
    finish(
        AttemptOutcome.TIMEOUT, result=held(passed | {"outcome": "failed"}), error="stopped after"
    )
    finish(
        REJECTED,
        result={"command": "make t", "output": printed("no\x1b", "end"), "seconds": 3},
        error="make",
    )
    finish(REJECTED, result={"path": "gone", "ok": False}, error="gone does not exist")
    lost, none, covered, late, command, gone = asked(client, batch)
    assert tags(lost) == [("lost", "error")]
    assert lost.find("testcase/error").get("message").startswith("the slot died")
    assert tags(none) == [("pytest -v tests", "error")]
    assert none.find("testcase/error").text == "nothing"
    assert tags(covered) == [("test_a", ""), ("pytest -v tests", "error")]
    assert tags(late) == [("test_a", "failure"), ("pytest -v tests", "error")]
    assert tags(command) == [("make t", "failure")]
    assert command.find("testcase/failure").text == "no\ufffd\n[…]\nend"
    assert command.get("time") == "3.000"
    assert tags(gone) == [("gone", "error")]


def test_what_did_not_run_is_skipped_and_a_command_that_did_well_passed(
    client, tested, finish, start
):
    batch = tested("good", "runs", "waits")
    finish(SUCCEEDED, result={"command": "make test", "output": printed(""), "seconds": 0.5})
    start(1)
    good, runs, waits = asked(client, batch)
    assert tags(good) == [("make test", "")]
    assert tags(runs) == [("runs", "skipped")]
    assert waits.find("testcase/skipped").get("message") == "the task is queued"


BOMB = (
    b'<!DOCTYPE a [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;">]>'
    b'<testsuites><testsuite><testcase name="&b;"/></testsuite></testsuites>'
)
FILE = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><testsuite>&x;</testsuite>'
WHOLE = b'<testsuite><testcase name="a" classname="b" time="1"/>'


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        FILE,
        WHOLE,
        WHOLE + b"<testcase><script/></testcase></testsuite>",
        WHOLE + b"<testcase><testcase/></testcase></testsuite>",
        b"<html/>",
        b"",
        b"\xff\xfe",
        b'<?xml version="1.0"?>' + b"<testsuite>" * 50,
        b"<testsuite><testcase>&#0;</testcase></testsuite>",
    ],
)
def test_a_report_that_is_none_is_not_used(client, tested, finish, keep, content):
    batch = tested("tests")
    finish(SUCCEEDED, result=held({"id": "t.py::test_a", "outcome": "passed", "seconds": 0}))
    keep(Task.objects.get(batch=batch), content)
    [suite] = asked(client, batch)
    assert tags(suite) == [("test_a", "")]
    assert "junit.xml cannot be read" in suite.find("system-err").text


def test_only_what_junit_knows_is_kept_of_a_report():
    content = (
        b'<?xml version="1.0" encoding="utf-7"?><testsuites><testsuite><properties>'
        b'<property name="x" value="y"/></properties><testcase name="a" x:y="1" time="nan">'
        b"<system-out>said</system-out></testcase><junk/></testsuite></testsuites>"
    )
    [case] = reports.read_cases(BytesIO(content))
    assert ET.tostring(case) == (
        b'<testcase name="a" time="0.000"><system-out>said</system-out></testcase>'
    )


@pytest.mark.parametrize(
    "content",
    [
        b"<testsuite><testcase><failure>" + b"x" * 3000 + b"</failure></testcase></testsuite>",
        b'<testsuite><testcase name="' + b"x" * 3000 + b'"/></testsuite>',
    ],
)
def test_a_case_has_a_longest_size(monkeypatch, content):
    monkeypatch.setattr(reports, "CHUNK", 100)
    monkeypatch.setattr(reports, "LONGEST_CASE", 2000)
    monkeypatch.setattr(reports, "LONGEST_TOKEN", 1000)
    with pytest.raises(reports.Unreadable, match="more than"):
        list(reports.read_cases(BytesIO(content)))


def test_reports_are_read_a_page_at_a_time(
    tested, finish, keep, tmp_path, monkeypatch, django_assert_num_queries
):
    monkeypatch.setattr(junit, "PAGE", 10)
    batch = tested(*(f"tests/test_{n}.py" for n in range(24)))
    finish(*[SUCCEEDED] * 24, result=held())
    content = report(tmp_path, *(Case(f"t.py::test_{n}", "passed") for n in range(50)))
    for task in Task.objects.filter(batch=batch):
        keep(task, content)
    document = junit.junit_suites(Selection(batch))
    with django_assert_num_queries(2):
        begun = [next(document) for _ in range(400)]
    # Two more pages with their files, and the one that shows there is no more.
    with django_assert_num_queries(5):
        suites = suites_of("".join([*begun, *document]))
    assert [suite.get("tests") for suite in suites] == ["50"] * 24


def test_a_batch_of_another_kind_says_what_it_has(client, make_batch, operator, red):
    batch = make_batch(operator, items=[Item({"path": "a.py"})], kind="validation", workspace="red")
    response = client.get(f"/batch/{batch.pk}/junit")
    assert response.status_code == 409
    assert response.json()["detail"].endswith("of kind validation. Ask for its sarif or results.")

import json
from io import BytesIO, StringIO
from types import SimpleNamespace
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command

from batches import operations
from batches.models import Batch

# What the command says does not depend on the database.
pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]


@pytest.fixture(autouse=True)
def admin():
    return get_user_model().objects.create_superuser("admin")


@pytest.fixture
def file(tmp_path):
    def written(body: object) -> str:
        path = tmp_path / "batch.json"
        path.write_text(body if isinstance(body, str) else json.dumps(body), encoding="utf-8")
        return str(path)

    return written


def submit(*arguments: str) -> str:
    out = StringIO()
    call_command("submit", *arguments, stdout=out)
    return out.getvalue().strip()


def test_it_prints_the_id_of_the_batch_it_stored(file, admin):
    body = {"kind": "noop", "name": "night", "priority": 8, "items": [{"id": "a"}, {"id": "b"}]}

    said = submit(file(body))

    batch = Batch.objects.get()
    assert UUID(said) == batch.pk
    assert (batch.name, batch.priority, batch.total, batch.owner) == ("night", 8, 2, admin)
    assert [task.custom_id for task in batch.tasks.order_by("position")] == ["a", "b"]


def test_the_kind_may_be_said_on_the_command_line(file):
    submit(file({"items": [{}]}), "--kind", "noop")

    assert Batch.objects.get().kind == "noop"


def test_it_reads_standard_input(monkeypatch):
    body = BytesIO(b'{"kind": "noop", "items": [{}]}')
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=body))

    submit("-")

    assert Batch.objects.get().total == 1


def test_the_batch_belongs_to_the_user_named(file):
    ada = get_user_model().objects.create_user("ada")

    submit(file({"kind": "noop", "items": [{}]}), "--user", "ada")

    assert Batch.objects.get().owner == ada


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ({"items": [{}]}, "kind: Say one of"),
        ({"kind": "nothing", "items": [{}]}, "kind: Say one of"),
        ({"kind": ["noop"], "items": [{}]}, "kind: Say one of"),
        ({"kind": "noop"}, "items: This field is required"),
        (
            {"kind": "noop", "items": [{}], "colour": 1},
            "colour: Unknown field: there are after, backend, deadline, items, labels",
        ),
        ({"kind": "noop", "items": [{}, {"priority": 11}]}, r"items\[1\].priority"),
        ({"kind": "sleep", "items": [{"seconds": "x"}]}, r"items\[0\].seconds"),
    ],
)
def test_a_wrong_body_is_refused_with_the_field_and_nothing_is_stored(file, body, words):
    with pytest.raises(CommandError, match=words):
        submit(file(body))
    assert not Batch.objects.exists()


def test_two_different_kinds_are_refused(file):
    with pytest.raises(CommandError, match="kind"):
        submit(file({"kind": "noop", "items": [{}]}), "--kind", "sleep")


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(CommandError, match=r"gone\.json cannot be read: No such file"):
        submit(str(tmp_path / "gone.json"))


def test_an_unknown_user_is_refused(file):
    with pytest.raises(CommandError, match="no active user 'nobody'"):
        submit(file({"kind": "noop", "items": [{}]}), "--user", "nobody")


def test_watching_a_cancelled_batch_ends_with_exit_code_1(file):
    batch = submit(file({"kind": "noop", "items": [{}, {}]}))
    operations.cancel_batch(Batch.objects.get())
    out = StringIO()

    with pytest.raises(SystemExit) as ended:
        call_command("watch", batch, stdout=out)

    assert ended.value.code == 1
    assert out.getvalue() == "2/2 cancelled: 2 cancelled\n"


def test_watching_an_unknown_batch_is_refused():
    with pytest.raises(CommandError, match="There is no batch"):
        call_command("watch", "0190163d-8694-739b-aea5-966c26f8ad90")


def test_watching_what_is_no_id_is_refused():
    with pytest.raises(CommandError, match="is no id"):
        call_command("watch", "night")

"""The demo, as far as it goes without a worker; ``test_up`` sees it in a running console."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command, load_command_class

from batches import operations, registry
from batches.management import installation, sampling
from batches.models import Batch, Workspace
from batches.supervision import model_checks
from batches.supervision.model_checks import CheckedModel
from tests.batches.test_model_checks import at
from tests.model_protocol import Asked, Reply
from tests.model_server import ModelServer

# What it submits does not depend on the database.
pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]


@pytest.fixture(autouse=True)
def boss(settings: Any, tmp_path: Path) -> User:
    settings.DATA_DIR = tmp_path
    return User.objects.create_superuser("boss")


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were asked for: none has answered, but for the tests that have a server."""
    names: list[str] = []

    def unanswered(wanted: list[str], **_: float) -> list[tuple[str, CheckedModel]]:
        names.extend(wanted)
        return []

    monkeypatch.setattr(sampling, "check_models", unanswered)
    return names


def demo(*arguments: str) -> tuple[str, str]:
    out, told = StringIO(), StringIO()
    call_command("demo", *arguments, stdout=out, stderr=told)
    return out.getvalue(), told.getvalue()


def test_every_shipped_kind_has_a_batch_on_the_sample_project(tmp_path: Path) -> None:
    said, told = demo()
    assert f"No worker runs, so they wait. Start one: manage.py up --data-dir {tmp_path}" in told
    assert "No agent is shown: the model qwen2.5-coder:7b has not answered in time" in told
    batches = {batch.kind: batch for batch in Batch.objects.all()}
    assert batches.keys() == {"validation", "test", "mcp"} <= registry.kinds().keys()
    for batch in batches.values():
        assert f"{batch.kind}: {batch.total} tasks, batch {batch.pk}\n" in said
        assert (batch.workspace.name, batch.labels) == ("demo", ["demo"])
        for path in batch.tasks.values_list("payload__path", flat=True):
            assert path in {None, "notes.txt"} or (tmp_path / "demo" / path).exists()
    assert (tmp_path / "demo/README.md").read_text().startswith("# Shop")


def test_a_second_demo_leaves_the_project_as_it_is(tmp_path: Path) -> None:
    demo()
    changed = tmp_path / "demo/shop/prices.py"
    changed.write_text("changed")
    lines = demo("--json", "--no-wait")[0].splitlines()
    assert {json.loads(line)["status"] for line in lines} == {"queued"}
    assert changed.read_text() == "changed"
    assert Workspace.objects.count() == 1
    assert Batch.objects.count() == 6


def test_what_it_says_to_type_works_as_it_is(tmp_path: Path) -> None:
    said, _ = demo()
    batch = Batch.objects.get(kind="validation")
    for command in ("results", "retry", "watch"):
        assert f"  manage.py {command} {batch.pk} --data-dir {tmp_path}\n" in said
    assert f"  manage.py up --data-dir {tmp_path}, which says where" in said
    with installation.only_one(tmp_path, "http://127.0.0.1:8137"):
        said, _ = demo()
    page = f"/admin/batches/batch/{Batch.objects.filter(kind='validation').latest('pk').pk}/change/"
    assert f"  http://127.0.0.1:8137{page}\n" in said


def test_a_kind_that_is_not_there_is_named(settings: Any) -> None:
    settings.TASK_KINDS = {"validation": settings.TASK_KINDS["validation"]}
    assert "Not part of this console, so not shown: test, mcp, agent." in demo()[1]
    assert Batch.objects.get().kind == "validation"
    settings.TASK_KINDS = {}
    assert "validation, test, mcp, agent" in demo()[1]


def test_a_workspace_of_that_name_elsewhere_is_not_touched(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    operations.add_workspace("demo", folder)
    with pytest.raises(CommandError, match=f"The workspace demo is {folder}: remove it"):
        demo()
    assert not Batch.objects.exists()


@pytest.mark.parametrize("command", ["demo", "up", "submit", "mcp"])
def test_help_is_about_the_command(command: str) -> None:
    told = load_command_class("batches", command).create_parser("manage.py", command).format_help()
    assert "--data-dir DIR: where everything is kept" in told
    assert "--pythonpath" not in told
    assert "--verbosity" not in told


def test_the_sample_holds_what_it_promises() -> None:
    assert "eval(" in (sampling.SAMPLE / "shop/orders.py").read_text()


@pytest.fixture
def really(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "check_models", model_checks.check_models)


def unasked(asked: Asked) -> Reply:
    raise AssertionError(f"nothing runs, but a model was asked: {asked}")


@pytest.mark.parametrize(
    ("models", "coder", "reviewer"),
    [
        (("qwen2.5-coder:7b", "llama3.2"), "qwen2.5-coder:7b", "llama3.2"),
        (("qwen2.5-coder:7b",), "qwen2.5-coder:7b", None),
        (("mine", "llama3.2"), "own", "llama3.2"),
    ],
)
def test_an_agent_is_shown_where_its_model_is(
    settings: Any, really: None, models: tuple[str, ...], coder: str, reviewer: str | None
) -> None:
    with ModelServer(unasked, models=dict.fromkeys(models, 1000)) as server:
        at(settings, server.url)
        operations.add_model("own", model="mine")
        said, told = demo()
    batch = Batch.objects.get(kind="agent")
    assert f"agent: 1 task, batch {batch.pk}\n" in said
    assert "No agent" not in told
    payload = batch.tasks.get().payload
    assert (payload["coder_model"], payload["reviewer_model"]) == (coder, reviewer)
    assert payload["apply_changes"] is False


def test_without_a_model_it_says_how_to_get_one(settings: Any, really: None) -> None:
    with ModelServer(unasked, models={}) as server:
        at(settings, server.url)
        _, told = demo()
    assert "No agent is shown: the model qwen2.5-coder:7b cannot be used:" in told
    assert "ollama pull qwen2.5-coder:7b" in told
    assert not Batch.objects.filter(kind="agent").exists()

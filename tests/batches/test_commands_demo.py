"""The demo, as far as it goes without a worker; ``test_up`` sees it in a running console."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from batches import operations, registry
from batches.management import sampling
from batches.models import Batch, Workspace

# What it submits does not depend on the database.
pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]


@pytest.fixture(autouse=True)
def boss(settings: Any, tmp_path: Path) -> User:
    settings.DATA_DIR = tmp_path
    return User.objects.create_superuser("boss")


def demo(*arguments: str) -> tuple[str, str]:
    out, told = StringIO(), StringIO()
    call_command("demo", *arguments, stdout=out, stderr=told)
    return out.getvalue(), told.getvalue()


def test_every_shipped_kind_has_a_batch_on_the_sample_project(tmp_path: Path) -> None:
    said, told = demo()
    assert "No worker runs, so they wait. Start one: manage.py up" in told
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


def test_a_workspace_of_that_name_elsewhere_is_not_touched(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    operations.add_workspace("demo", folder)
    with pytest.raises(CommandError, match=f"The workspace demo is {folder}: remove it"):
        demo()
    assert not Batch.objects.exists()


def test_the_sample_holds_what_it_promises() -> None:
    assert "eval(" in (sampling.SAMPLE / "shop/orders.py").read_text()

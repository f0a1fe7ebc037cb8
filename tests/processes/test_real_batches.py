"""A real project as a workspace, checked and tested in batches: the same answers as by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from batches import operations
from batches.api import story
from batches.models import Attempt, Batch
from tests.patience import PATIENCE
from tests.processes.fleet import Fleet, done, submit
from tests.real_project import RealProject, real_project

__all__ = ["real_project"]

# What the processors answer does not depend on the database.
pytestmark = [pytest.mark.long, pytest.mark.either]


@pytest.fixture
def workspace(standing: Fleet, real_project: RealProject) -> Iterator[str]:
    row = operations.add_workspace(
        "markdown",
        real_project.root,
        environment={"variables": real_project.environment.variables},
    )
    User.objects.create_superuser("tester")
    yield row.name
    Batch.objects.filter(workspace=row).delete()
    operations.remove_workspace(row)


def by_path(batch: Batch) -> dict[str, Any]:
    return {task.payload["path"]: task for task in batch.tasks.all()}


def test_every_file_has_the_findings_of_ruff_by_hand(
    workspace: str, real_project: RealProject
) -> None:
    assert len(real_project.files) >= 100
    expected = real_project.ruff_by_hand()
    assert any(expected.values())
    targets = ({"path": path} for path in real_project.files)
    batch = submit("validation", *targets, workspace=workspace, options={"checks": ["lint"]})
    tasks = by_path(done(batch, within=3 * PATIENCE))
    assert tasks.keys() == set(real_project.files)
    for path, task in tasks.items():
        found = []
        for finding in task.result["findings"]:
            region = finding["locations"][0]["physicalLocation"]["region"]
            found.append((finding["ruleId"], region["startLine"], region["startColumn"]))
        assert sorted(found) == expected.get(path, []), path
        assert task.failure == ("rejected" if found else ""), task.error
    # On a busy machine a task may be handed back because the one before it held the slot up.
    assert set(Attempt.objects.values_list("outcome", flat=True)) <= {
        "succeeded",
        "rejected",
        "released",
    }


def test_every_module_has_the_counts_of_pytest_by_hand(
    workspace: str, real_project: RealProject
) -> None:
    assert len(real_project.test_modules) >= 15
    expected = real_project.pytest_by_hand(real_project.test_modules)
    total: Counter[str] = sum(expected.values(), Counter())
    assert total["passed"] > 1000
    assert total["skipped"] > 10
    assert total["failed"] > 2
    modules = ({"path": path} for path in real_project.test_modules)
    tasks = by_path(done(submit("test", *modules, workspace=workspace), within=3 * PATIENCE))
    assert tasks.keys() == expected.keys()
    for path, task in tasks.items():
        counts = Counter(task.result["counts"])
        counts["error"] = counts.pop("errors")
        assert +counts == expected[path], (path, task.error)
        assert task.result.keys() == story.RESULT.keys()
        red = expected[path]["failed"] + expected[path]["error"]
        assert task.failure == ("rejected" if red else ""), task.error
        assert task.artefacts.get().name == "junit.xml"

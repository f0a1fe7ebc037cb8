"""What the system checks say of wrong settings."""

import pytest
from django.core.checks import run_checks

from batches import registry


class Incomplete:
    recycle_after = 1


def complaints(settings, entry) -> list[str]:
    settings.TASK_KINDS = {"odd": entry}
    registry._processor.cache_clear()
    return [message.id for message in run_checks() if message.id.startswith("batches.")]


WHOLE = {"processor": "tests.processors.Nothing", "endpoint": "odd", "items": "x", "queue": "tests"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, []),
        ({"processor": "tests.processors.Missing"}, ["batches.E002"]),
        ({"processor": "no.such.module.X"}, ["batches.E002"]),
        ({"processor": "tests.batches.test_checks.Incomplete"}, ["batches.E003"]),
    ],
)
def test_a_kind_that_could_not_run_is_named_at_start(settings, change, complaint):
    assert complaints(settings, {**WHOLE, **change}) == complaint


def test_an_incomplete_kind_is_named_at_start(settings):
    entry = {key: value for key, value in WHOLE.items() if key != "queue"}
    assert complaints(settings, entry) == ["batches.E001"]


def test_the_shipped_kinds_can_run():
    from config.settings import TASK_KINDS

    assert {"validation", "test"} <= TASK_KINDS.keys()
    assert run_checks() == []

"""A little of ``python -m tests.fuzzing``, always the same: a served console answers as it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzzing.campaign import Tally, run
from tests.fuzzing.console import served

pytestmark = [pytest.mark.either, pytest.mark.long]


def test_made_up_requests_are_answered_as_the_document_says(tmp_path: Path) -> None:
    tally = Tally()
    with served(tmp_path) as (address, token):
        run(tally, address, token, examples=1, seed=1, phases=("examples", "fuzzing"))
    assert not tally.failures
    assert not tally.unanswered
    assert tally.cases >= 100
    assert len(tally.calls) >= 38
    assert len(tally.succeeded) >= 20

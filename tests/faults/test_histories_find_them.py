"""The random histories of the queue find what they are to find: by chance they could cease to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.planted import Fault, apply, copy_tree, fall, faults

HISTORIES = (
    "tests/batches/test_state_machine.py::"
    "test_no_history_of_the_queue_leaves_a_row_in_a_state_it_must_not_be_in"
)

pytestmark = [pytest.mark.either, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    "fault", [one for one in faults() if HISTORIES in one.falls], ids=lambda fault: fault.name
)
def test_a_fault_that_histories_show_is_found(fault: Fault, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    copy_tree(tree)
    assert not apply(fault, tree)
    assert fall(tree, [HISTORIES], "") == {HISTORIES}

"""The order of all tests."""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Random, as it was made, but with the long ones first: several processes share them out."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)

"""A workspace's marker, whatever lies in its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batches.places import MARKER, can_open, openable

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]


def test_a_folder_with_its_marker_is_the_workspace(red):
    Path(red.path, MARKER).write_text(f"{red.marker}\n")
    assert can_open(red)
    assert set(openable()) == {red.pk}


@pytest.mark.parametrize("content", [b"\xff", b"", b"not an id", b"0" * 10_000])
def test_an_odd_marker_is_no_marker_and_stops_nobody(red, content):
    Path(red.path, MARKER).write_bytes(content)
    assert openable() == {}


def test_a_pipe_in_the_markers_place_is_not_waited_for(red):
    os.mkfifo(Path(red.path, MARKER))
    assert not can_open(red)


def test_a_link_in_the_markers_place_is_not_followed(red, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(str(red.marker))
    Path(red.path, MARKER).symlink_to(elsewhere)
    assert not can_open(red)

"""Containment: whatever is asked for, nothing outside the workspace is opened."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.contract import PayloadError
from agents.paths import PathEscapes, WorkspaceMissing, checked_spelling, contained

NASTY = st.one_of(
    st.text(),
    st.lists(st.sampled_from(["..", ".", "", "a", "b.py", "~", "c:", " ", "…"])).map("/".join),
)


@given(NASTY)
def test_a_spelling_that_passes_stays_inside(path: str) -> None:
    try:
        spelled = checked_spelling(path)
    except PayloadError:
        return
    assert not spelled.startswith("/")
    assert ".." not in spelled.split("/")
    assert checked_spelling(spelled) == spelled
    assert spelled.encode()


@given(NASTY)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_opened_is_inside(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    (root / "a" / "b.py").mkdir(parents=True, exist_ok=True)
    try:
        real = contained(root, checked_spelling(path))
    except (PayloadError, FileNotFoundError):
        return
    assert real.is_relative_to(root.resolve())


@pytest.mark.parametrize(
    "path",
    [
        "", " ", "/etc/passwd", "../up", "a/../../up", "a/..", "nul\0", "line\nfeed", "a\\..\\b",
        "\udcff", "a" * 256, "/".join(["a"] * 3000), None, 3, ["a"],
    ],
)  # fmt: skip
def test_a_bad_spelling_is_refused(path: object) -> None:
    with pytest.raises(PayloadError) as caught:
        checked_spelling(path, "targets.path")
    assert caught.value.field == "targets.path"


@pytest.mark.parametrize(
    ("path", "spelled"),
    [("src/app.py", "src/app.py"), ("./src//app.py", "src/app.py"), ("src/", "src"), (".", "."),
     ("ünïcode/名.py", "ünïcode/名.py"), ("-rf.py", "-rf.py"), ("a b.py", "a b.py"),
     ("..hidden", "..hidden")],
)  # fmt: skip
def test_a_good_spelling_is_shortened(path: str, spelled: str) -> None:
    assert checked_spelling(path) == spelled


def test_a_symlink_within_the_workspace_is_followed(project: Path) -> None:
    (project / "real.py").write_text("")
    (project / "link.py").symlink_to("real.py")
    assert contained(project, "link.py") == project / "real.py"


@pytest.mark.parametrize("target", ["/etc/passwd", "..", "../beside"])
def test_a_symlink_out_of_the_workspace_is_refused(project: Path, target: str) -> None:
    (project.parent / "beside").mkdir()
    (project / "link").symlink_to(target)
    with pytest.raises(PathEscapes, match="link leads out of the workspace"):
        contained(project, "link")


def test_a_folder_that_only_begins_like_the_workspace_is_outside(project: Path) -> None:
    beside = project.with_name(project.name + "-private")
    beside.mkdir()
    (project / "link").symlink_to(beside)
    with pytest.raises(PathEscapes):
        contained(project, "link")


@pytest.mark.parametrize("path", ["missing.py", "file.py/inside", "loop"])
def test_what_is_not_there_is_said_to_be_missing(project: Path, path: str) -> None:
    (project / "file.py").write_text("")
    (project / "loop").symlink_to("loop")
    with pytest.raises(FileNotFoundError, match="does not exist in the workspace"):
        contained(project, path)


def test_a_workspace_that_is_not_there_is_not_an_empty_one(project: Path) -> None:
    with pytest.raises(WorkspaceMissing, match="is not on this machine"):
        contained(project / "unmounted", "app.py")

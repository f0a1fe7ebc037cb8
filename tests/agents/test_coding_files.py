"""What the model's file tools show and change, and how they say no."""

from __future__ import annotations

import difflib
import os
import re
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from agents.coding.files import CopyFiles, EditLimits
from agents.coding.refusals import LimitExceeded, ToolRefused
from agents.coding.text_file import MOST_RATIOS, TextFile
from tests.agents.conftest import RecordingContext
from tests.agents.enclosing import enclosed


@pytest.fixture
def files(context: RecordingContext, project: Path) -> CopyFiles:
    """On a copy of a small project."""
    (project / "src").mkdir()
    (project / "src" / "app.py").write_text("def greet(name):\n    return 'Hello ' + name\n")
    (project / "src" / "windows.txt").write_bytes(b"one\r\ntwo\r\nthree\r\n")
    (project / "README.md").write_text("# Project\n")
    (project / "run.sh").write_text("#!/bin/sh\n")
    (project / "run.sh").chmod(0o755)
    (project / "logo.png").write_bytes(b"\x89PNG\0\0")
    (project / "latin.txt").write_bytes("größe\n".encode("latin-1"))
    (project / "node_modules").mkdir()
    (project / "node_modules" / "left.js").write_text("greet")
    return CopyFiles(enclosed(context), EditLimits())


def on_disk(files: CopyFiles, path: str) -> bytes:
    return (files._enclosure.folder / path).read_bytes()


def test_a_listing_names_each_file_of_the_project(files: CopyFiles) -> None:
    assert files.list_files().splitlines() == [
        "README.md", "latin.txt", "logo.png", "run.sh", "src/app.py", "src/windows.txt",
    ]  # fmt: skip
    assert files.list_files("src", "*.py") == "src/app.py"
    assert files.list_files(pattern="src/**/*.py") == "src/app.py"
    assert files.list_files(pattern="*.go") == "no files match *.go in ."


def test_a_long_listing_is_told_by_folder(context: RecordingContext, project: Path) -> None:
    for number in range(30):
        folder = project / f"part{number % 3}" / "deep"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.py").write_text("")
    (project / "top.py").write_text("")
    files = CopyFiles(enclosed(context), EditLimits(shown_entries=10))
    head, *entries = files.list_files().splitlines()
    assert head.startswith("31 files")
    assert entries == ["part0/ (10 files)", "part1/ (10 files)", "part2/ (10 files)", "top.py"]
    assert len(files.list_files("part1").splitlines()) == 10


def test_a_file_is_read_with_the_numbers_of_its_lines(files: CopyFiles) -> None:
    assert files.read_file("src/app.py") == (
        "src/app.py, lines 1 to 2 of 2\n1\tdef greet(name):\n2\t    return 'Hello ' + name"
    )
    assert files.read_file("src/windows.txt", 2, 2).endswith("of 3\n2\ttwo")
    with pytest.raises(ToolRefused, match="has 2 lines, so none at 7"):
        files.read_file("src/app.py", 7)


def test_a_path_may_be_spelled_as_commands_print_it(files: CopyFiles, project: Path) -> None:
    assert "Hello" in files.read_file(f"{project}/src/app.py")
    assert "Hello" in files.read_file("./src//app.py")
    assert files.list_files(str(project)) == files.list_files()


def test_a_long_file_is_read_in_parts(context: RecordingContext, project: Path) -> None:
    (project / "long.txt").write_text("".join(f"line {number}\n" for number in range(1, 1001)))
    files = CopyFiles(enclosed(context), EditLimits(shown_bytes=2000))
    read: list[str] = []
    start = 1
    while start:
        head, *lines = files.read_file("long.txt", start).splitlines()
        read += [line.partition("\t")[2] for line in lines]
        onward = re.search(r"start_line=(\d+)", head)
        start = int(onward[1]) if onward else 0
    assert read == [f"line {number}" for number in range(1, 1001)]


def test_a_very_long_line_is_cut(context: RecordingContext, project: Path) -> None:
    (project / "min.js").write_text("x" * 1_000_000)
    shown = CopyFiles(enclosed(context), EditLimits()).read_file("min.js")
    assert len(shown) < 3000
    assert shown.endswith("… (cut)")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("logo.png", "binary file of 6 bytes"),
        ("missing.py", "missing.py does not exist"),
        ("src", "src is not a file"),
        (".", "is a folder"),
        ("README.md/x", "does not exist"),
        ("", "must be a path"),
    ],
)
def test_what_cannot_be_read_is_told(files: CopyFiles, path: str, why: str) -> None:
    with pytest.raises(ToolRefused, match=why):
        files.read_file(path)
    assert files.blocked == 0


def test_a_pipe_and_a_huge_file_do_not_hold_it_up(files: CopyFiles) -> None:
    os.mkfifo(files._enclosure.folder / "pipe")
    with (files._enclosure.folder / "huge").open("wb") as huge:
        huge.truncate(1 << 40)
    with pytest.raises(ToolRefused, match="pipe is not a file"):
        files.read_file("pipe")
    with pytest.raises(ToolRefused, match="too large"):
        files.read_file("huge")


def test_a_search_finds_lines_in_every_text_file(files: CopyFiles) -> None:
    assert files.search("greet") == "src/app.py:1: def greet(name):"
    assert files.search("gr..t(", "src") == "no line has it"
    assert files.search(r"^\s+return\b", regex=True) == ("src/app.py:2:     return 'Hello ' + name")
    assert files.search("two", "src/windows.txt") == "src/windows.txt:2: two"
    with pytest.raises(ToolRefused, match="not a regular expression"):
        files.search("(", regex=True)


def test_a_search_shows_no_more_than_it_may(context: RecordingContext, project: Path) -> None:
    (project / "many.txt").write_text("needle\n" * 5000)
    shown = CopyFiles(enclosed(context), EditLimits(shown_matches=20)).search("needle")
    *lines, end = shown.splitlines()
    assert len(lines) == 20
    assert end == "there are more; narrow the search"


def test_an_expression_that_never_ends_is_ended(context: RecordingContext, project: Path) -> None:
    (project / "trap.txt").write_text("a" * 60 + "\n")
    files = CopyFiles(enclosed(context), EditLimits(search_time=timedelta(seconds=1)))
    assert "took too long" in files.search("(a+)+$b", regex=True)


def test_a_written_file_is_there_with_its_folders(files: CopyFiles) -> None:
    assert files.write_file("src/new/deep/mod.py", "x = 1\n").endswith("mod.py written, 1 lines")
    assert on_disk(files, "src/new/deep/mod.py") == b"x = 1\n"
    assert files.write_file("run.sh", "#!/bin/bash\necho\n").endswith("2 lines")
    copy = files._enclosure.folder
    assert stat.S_IMODE((copy / "run.sh").stat().st_mode) == 0o755
    for made in ("src/new", "src/new/deep", "src/new/deep/mod.py", "run.sh"):
        assert (copy / made).stat().st_uid == files._enclosure.user[0]
    assert sorted(path.name for path in copy.iterdir()) == [
        "README.md", "latin.txt", "logo.png", "node_modules", "run.sh", "src",
    ]  # fmt: skip


def test_line_ends_stay_as_they_were(files: CopyFiles) -> None:
    files.edit_file("src/windows.txt", "one\ntwo", "one\n1.5\ntwo")
    assert on_disk(files, "src/windows.txt") == b"one\r\n1.5\r\ntwo\r\nthree\r\n"
    files.write_file("src/windows.txt", "all\nnew\n")
    assert on_disk(files, "src/windows.txt") == b"all\r\nnew\r\n"


def test_an_edit_replaces_the_one_place(files: CopyFiles) -> None:
    files.edit_file("src/app.py", "'Hello '", "'Hi '")
    assert on_disk(files, "src/app.py") == b"def greet(name):\n    return 'Hi ' + name\n"
    assert files.changed == {"src/app.py"}


def test_an_edit_may_be_copied_with_its_numbers(files: CopyFiles) -> None:
    old, new = "1\tdef greet(name):\n2\t    return", "1\tdef greet(who):\n2\t    return"
    files.edit_file("src/app.py", old, new)
    assert on_disk(files, "src/app.py").startswith(b"def greet(who):\n    return")


def test_a_miss_says_what_is_near(files: CopyFiles) -> None:
    with pytest.raises(ToolRefused) as spaces:
        files.edit_file("src/app.py", "  return 'Hello '+name", "pass")
    told = "But for spaces these lines are the same:\n2\t    return 'Hello ' + name"
    assert told in str(spaces.value)
    with pytest.raises(ToolRefused) as near:
        files.edit_file("src/app.py", "def greets(names):\n    return 1", "pass")
    assert "The nearest lines are:\n1\tdef greet(name):\n2\t    return" in str(near.value)
    with pytest.raises(ToolRefused, match="Nothing like it is there"):
        files.edit_file("src/app.py", "class Quux(Base, metaclass=Meta): ...", "pass")
    assert files.changed == set()


def test_a_text_that_is_there_twice_is_not_guessed_at(files: CopyFiles) -> None:
    files.write_file("twice.txt", "a\nsame\nb\nsame\n")
    with pytest.raises(ToolRefused, match=r"2 times \(lines 2, 4\)"):
        files.edit_file("twice.txt", "same", "other")


@pytest.mark.parametrize(
    ("path", "old", "new", "why"),
    [
        ("src/app.py", "", "x", "old_text is empty"),
        ("src/app.py", "def", "def", "are the same"),
        ("latin.txt", "gr", "x", "not UTF-8"),
        ("logo.png", "PNG", "x", "binary"),
        ("src/app.py", "def", "\ud800", "valid Unicode"),
    ],
)
def test_an_edit_that_cannot_be_is_refused(
    files: CopyFiles, path: str, old: str, new: str, why: str
) -> None:
    before = on_disk(files, path)
    with pytest.raises(ToolRefused, match=why):
        files.edit_file(path, old, new)
    assert on_disk(files, path) == before


def test_files_and_bytes_are_limited(context: RecordingContext, project: Path) -> None:
    limits = EditLimits(max_files=2, max_bytes=100)
    files = CopyFiles(enclosed(context), limits)
    files.write_file("one", "x" * 30)
    files.write_file("two", "x" * 30)
    files.write_file("one", "y" * 30)
    with pytest.raises(LimitExceeded) as more_files:
        files.write_file("three", "z")
    assert more_files.value.limit == "files"
    with pytest.raises(LimitExceeded) as more_bytes:
        files.write_file("two", "z" * 11)
    assert more_bytes.value.limit == "bytes"
    assert on_disk(files, "two") == b"x" * 30
    assert files.list_files() == "one\ntwo"


def test_a_name_that_is_no_text_is_listed_as_text(context: RecordingContext, project: Path) -> None:
    (Path(os.fsdecode(os.fsencode(project) + b"/odd\xff\nname"))).write_text("needle")
    files = CopyFiles(enclosed(context), EditLimits())
    assert files.list_files().encode() == b"odd??name"
    assert files.search("needle").encode().startswith(b"odd")


@pytest.mark.parametrize(
    "path",
    [
        "\0", "a\nb", "\ud800", "x" * 300, "a/" * 3000, "%2e%2e/%2e%2e/etc/passwd", "..\\..\\x",
        "//etc/passwd", "a/./../../x", " ", "~root/x", "/", "src/app.py/..", "...", "C:\\x", "-rf",
    ],
)  # fmt: skip
def test_an_odd_path_is_an_answer_and_no_error(files: CopyFiles, path: str) -> None:
    for tool, arguments in (
        (files.read_file, (path,)),
        (files.edit_file, (path, "old", "new")),
        (files.search, ("text", path)),
        (files.list_files, (path,)),
    ):
        with pytest.raises(ToolRefused):
            tool(*arguments)


def test_few_lines_are_compared_letter_by_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    real = difflib.SequenceMatcher.ratio

    def counting(matcher: difflib.SequenceMatcher[str]) -> float:
        nonlocal compared
        compared += 1
        return real(matcher)

    monkeypatch.setattr(difflib.SequenceMatcher, "ratio", counting)
    letters = "abcdefghijklmnopqrstuvwxyz" * 2
    anagrams = "".join(f"{letters[at % 26 :]}{letters[: at % 26]}\n" for at in range(2000))
    with pytest.raises(ToolRefused, match="not in the file"):
        TextFile(anagrams).replaced(letters[::-1], "new")
    assert compared == MOST_RATIOS

"""The start script says what is missing, and installs only when the lock file has changed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("dirname", "cat", "cmp", "cp", "rm", "mkdir", "chmod")


def program(file: Path, body: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    file.chmod(0o755)


@pytest.fixture
def clone(tmp_path):
    """A copy of what the script needs, in a folder whose name needs quoting."""
    folder = tmp_path / "a clone's folder"
    (folder / "deploy").mkdir(parents=True)
    for name in ("deploy/up.sh", "deploy/environment.sh", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def path(tmp_path):
    """A PATH with the few tools of a small system, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool))
    return folder


def up(clone: Path, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(clone / "deploy/up.sh"), *arguments],
        cwd="/",
        env={"PATH": str(path), "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        check=False,
    )


# What `python -m venv` and pip would do, written down: $0 -m venv --clear DIRECTORY.
MAKES_ENVIRONMENTS = r"""
case "$*" in
*"-m venv"*)
    for directory; do :; done
    mkdir -p "$directory/bin"
    printf '#!/bin/sh\necho "$@" >>"%s/calls"\n' "$directory" >"$directory/bin/python"
    chmod 755 "$directory/bin/python"
    ;;
--version) echo "Python 3.12.0" ;;
esac
"""


def calls(clone: Path) -> list[str]:
    return (clone / ".venv/calls").read_text(encoding="utf-8").splitlines()


def test_a_machine_without_python_is_told_how_to_get_it(clone, path):
    refused = up(clone, path)

    assert refused.returncode == 1
    assert "needs Python 3.11 or newer; this machine has no Python 3" in refused.stderr
    assert "apt-get install python3 python3-venv" in refused.stderr


def test_a_python_that_is_too_old_is_named(clone, path):
    program(path / "python3", '[ "$1" = --version ] && echo "Python 3.9.2" || exit 1')

    assert "this machine has Python 3.9.2" in up(clone, path).stderr


def test_a_python_without_its_venv_module_is_told_how_to_get_that(clone, path):
    program(
        path / "python3.12",
        'case "$2" in *ensurepip*) exit 1 ;; *version_info*print*|*print*) echo 3.12 ;; esac',
    )

    refused = up(clone, path)

    assert refused.returncode == 1
    assert "apt-get install python3.12-venv" in refused.stderr
    assert not (clone / ".venv").exists()


def test_the_newest_python_that_works_is_taken(clone, path):
    program(path / "python3.13", "exit 127")  # what version managers leave behind
    program(path / "python3.12", MAKES_ENVIRONMENTS)
    program(path / "python3.11", "exit 1")

    started = up(clone, path)

    assert started.returncode == 0
    assert "Python 3.12.0" in started.stderr


def test_packages_are_installed_once_and_again_when_the_lock_changes(clone, path):
    program(path / "python3.12", MAKES_ENVIRONMENTS)

    up(clone, path, "--port", "9000")
    first = calls(clone)
    assert [line for line in first if "--require-hashes" in line]
    assert first[-1] == f"{clone}/manage.py up --port 9000"

    up(clone, path)
    assert not [line for line in calls(clone)[len(first) :] if "pip install" in line]

    with (clone / "requirements.lock").open("a", encoding="utf-8") as lock:
        lock.write("# changed\n")
    up(clone, path)
    assert sum("pip install" in line for line in calls(clone)) == 2


def test_an_installation_that_failed_starts_nothing_and_is_made_anew(clone, path):
    failing = MAKES_ENVIRONMENTS.replace("echo", 'case "$*" in *pip*) exit 1 ;; esac; echo', 1)
    program(path / "python3.12", failing)

    refused = up(clone, path)
    assert refused.returncode == 1
    assert "Nothing was started" in refused.stderr

    program(path / "python3.12", MAKES_ENVIRONMENTS)
    assert up(clone, path).returncode == 0
    assert calls(clone)[-1] == f"{clone}/manage.py up"


def test_uv_is_used_where_it_is_there(clone, path):
    program(path / "python3.12", MAKES_ENVIRONMENTS)
    program(
        path / "uv",
        f'echo "uv $*" >>"{path}/uv.calls"; [ "$1" = venv ] || exit 0\n'
        f'for directory; do :; done; exec "{path}/python3.12" -m venv "$directory"',
    )

    assert up(clone, path).returncode == 0
    made, installed = (path / "uv.calls").read_text(encoding="utf-8").splitlines()
    assert "uv venv" in made
    assert "--require-hashes" in installed

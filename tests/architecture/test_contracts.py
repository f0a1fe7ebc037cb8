"""What holds for the code as a whole, whatever it does."""

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "batches/management/sample"
"""A project of its own, shipped as data."""

PRODUCTION = {
    "HTTPS": "true",
    "DEBUG": "false",
    "SECRET_KEY": "only-for-this-check-" + "k3y" * 20,
    "ALLOWED_HOSTS": "console.example.org",
    "DJANGO_SETTINGS_MODULE": "config.settings",
}


def test_imports_point_one_way():
    # In a process of its own: it silences every logger there is.
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout


@pytest.mark.django_db
def test_the_migrations_say_what_the_models_say():
    call_command("makemigrations", check=True, dry_run=True, stdout=StringIO())


def test_production_settings_pass_the_deployment_checks(tmp_path):
    checked = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path)} | PRODUCTION,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stderr


COMMANDS = sorted(file.stem for file in (ROOT / "batches/management/commands").glob("[a-z]*.py"))


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert {"up", "worker", "submit", "watch", "token", "workspace"} <= set(COMMANDS)
    for name in COMMANDS:
        assert re.search(rf"^\| `{name}\b.*` \| .+ \|$", readme, re.MULTILINE), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name, capsys):
    with pytest.raises(SystemExit) as ended:
        call_command(name, "--help")

    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_pyproject_lists_every_package():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = project["tool"]["setuptools"]["packages"]
    present = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for top in ("agents", "batches", "config")
        for file in (ROOT / top).rglob("*.py")
        if not file.is_relative_to(SAMPLE)
    }

    assert set(listed) == present

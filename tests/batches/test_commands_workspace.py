import json
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command

from batches.models import Workspace

# What the command says does not depend on the database.
pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]


@pytest.fixture(autouse=True)
def admin():
    return get_user_model().objects.create_superuser("admin")


def workspace(*arguments: str) -> str:
    out = StringIO()
    call_command("workspace", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "shop"
    made.mkdir()
    return made


def test_a_folder_becomes_a_workspace(folder):
    said = workspace("add", "shop", str(folder))

    assert said == f"shop is {folder}\n"
    assert Workspace.objects.get().path == str(folder)


def test_a_relative_path_is_seen_from_where_the_command_is_typed(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)

    workspace("add", "shop", "shop")

    assert Workspace.objects.get().path == str(folder)


def test_its_commands_get_the_environment_that_was_given(folder):
    virtualenv, tools = folder / "env", folder / "tools"
    (virtualenv / "bin").mkdir(parents=True)
    (virtualenv / "bin" / "python").touch()
    tools.mkdir()

    workspace(
        *("add", "shop", str(folder), "--venv", str(virtualenv), "--path", str(tools)),
        *("--variable", "A=1", "--variable", "B=x=y"),
    )

    assert Workspace.objects.get().environment == {
        "virtualenv": str(virtualenv),
        "path": [str(tools)],
        "variables": {"A": "1", "B": "x=y"},
    }


def test_groups_see_it(folder):
    Group.objects.create(name="team")

    workspace("add", "shop", str(folder), "--group", "team")

    assert [group.name for group in Workspace.objects.get().groups.all()] == ["team"]
    assert "(seen by team)" in workspace("list")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["add", "shop", "/nowhere/at/all"],
            "No such file or directory: /nowhere/at/all$",
        ),
        (["add", "Not A Name", "."], "name"),
        (["add", "shop", ".", "--group", "nobodies"], "--group: 'nobodies' is not one of"),
        (["add", "shop", ".", "--variable", "A"], "'A' is not NAME=VALUE"),
        (["remove", "shop"], "There is no workspace 'shop'"),
        ([], "required: verb"),
    ],
)
def test_what_is_wrong_is_named(folder, monkeypatch, arguments, words):
    monkeypatch.chdir(folder)

    with pytest.raises(CommandError, match=words):
        workspace(*arguments)
    assert not Workspace.objects.exists()


def test_a_name_is_given_once(folder):
    workspace("add", "shop", str(folder))

    with pytest.raises(CommandError, match="name"):
        workspace("add", "shop", str(folder))


def test_the_list_is_for_people_and_for_programs(folder):
    workspace("add", "shop", str(folder))

    assert workspace("list") == f"shop  {folder}\n"
    (listed,) = json.loads(workspace("list", "--json"))
    assert (listed["name"], listed["path"], listed["groups"]) == ("shop", str(folder), [])


def test_an_empty_list_is_still_json():
    assert json.loads(workspace("list", "--json")) == []


def test_removing_leaves_the_folder_alone(folder):
    (folder / "kept.py").write_text("x = 1\n", encoding="utf-8")
    workspace("add", "shop", str(folder))

    workspace("remove", "shop")

    assert not Workspace.objects.exists()
    assert (folder / "kept.py").exists()

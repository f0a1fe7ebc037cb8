"""Settings fail loudly, have an effect, and are in the guide."""

import ast
import dataclasses
import re
import stat
from multiprocessing import get_context
from pathlib import Path

import pytest
from celery.app.defaults import SETTING_KEYS
from django.conf import global_settings, settings
from django.core.exceptions import ImproperlyConfigured

from agents.limits import SandboxSettings
from batches import registry
from batches.models import Queue
from config import env
from config.keys import kept_key
from config.settings import database

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "deploy/README.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "config/settings.py").read_text(encoding="utf-8")
NOT_OURS = {
    "CONTENT_SECURITY_POLICY",
    "REST_FRAMEWORK",
    "REST_KNOX",
    "ROOT_URLCONF",
    "SPECTACULAR_SETTINGS",
    "UNFOLD",
    "WHITENOISE_USE_FINDERS",
}


def documented() -> dict[str, str]:
    """Variable → default, from the guide's tables."""
    return dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]*?) \|", GUIDE, re.MULTILINE))


def test_the_guide_has_every_variable_and_no_other():
    assert documented().keys() == env.READ.keys()


def test_the_guide_gives_the_defaults():
    shown = {name: default.strip("`") for name, default in documented().items()}

    for variable in env.READ.values():
        if variable.default:
            assert shown[variable.name] == variable.default, variable.name


def test_the_guide_says_which_variables_may_come_from_files():
    secrets = {variable.name for variable in env.READ.values() if variable.secret}

    assert secrets
    for name in secrets:
        assert f"`{name}_FILE`" in GUIDE


def test_every_setting_of_ours_has_an_effect():
    tree = ast.parse(SETTINGS)
    assigned = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id.isupper()
    }
    ours = {name for name in assigned - NOT_OURS if not hasattr(global_settings, name)}
    used_here = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    code = "\n".join(
        file.read_text(encoding="utf-8")
        for top in ("agents", "batches", "config")
        for file in (ROOT / top).rglob("*.py")
    )
    used_elsewhere = set(re.findall(r"settings\.([A-Z_]+)", code))
    # Celery takes its own from the settings, and its Django fixup one more.
    of_celery = {f"CELERY_{name.upper()}" for name in SETTING_KEYS} | {"CELERY_DB_REUSE_MAX"}

    assert ours - used_here - used_elsewhere - of_celery == set()


OF_AGENTS = {"ollama_base_url", "secret_files"}


def test_every_setting_of_a_task_is_one_that_the_sandbox_or_an_agent_reads():
    fields = {field.name for field in dataclasses.fields(SandboxSettings)}

    assert settings.PROCESSOR_SETTINGS.keys() - fields == OF_AGENTS
    code = "".join(file.read_text("utf-8") for file in (ROOT / "agents" / "coding").glob("*.py"))
    for name in OF_AGENTS:
        assert f'"{name}"' in code, name
    assert SandboxSettings.from_settings(settings.PROCESSOR_SETTINGS).run_as_uid == 65534


@pytest.fixture(autouse=True)
def _forget_what_tests_read(monkeypatch):
    monkeypatch.setattr(env, "READ", dict(env.READ))


@pytest.mark.parametrize(
    ("read", "value", "words"),
    [
        (lambda: env.integer("X", 1), "one", "X='one' is not a whole number"),
        (lambda: env.integer("X", 1, least=2), "1", "X=1 must be at least 2"),
        (lambda: env.integer("X", 1, most=2), "3", "X=3 must be at most 2"),
        (lambda: env.boolean("X", default=False), "maybe", "X='maybe' is not one of"),
        (lambda: env.choice("X", "A", ("A", "B")), "c", "X='C' is not one of A, B"),
    ],
)
def test_a_wrong_value_is_refused_by_name(monkeypatch, read, value, words):
    monkeypatch.setenv("X", value)

    with pytest.raises(ImproperlyConfigured, match=re.escape(words)):
        read()


def test_an_empty_variable_counts_as_not_set(monkeypatch):
    monkeypatch.setenv("X", " ")

    assert env.integer("X", 7) == 7
    assert env.boolean("X", default=True)
    assert env.listing("X", ("a", "b")) == ["a", "b"]
    assert env.secret("X") == ""


def test_a_secret_may_come_from_a_file(monkeypatch, tmp_path):
    file = tmp_path / "secret"
    file.write_text("hidden\n", encoding="utf-8")
    monkeypatch.setenv("X_FILE", str(file))

    assert env.secret("X") == "hidden"

    monkeypatch.setenv("X", "shown")
    with pytest.raises(ImproperlyConfigured, match="X or X_FILE, not both"):
        env.secret("X")


@pytest.mark.parametrize("contents", [None, "", "\n"])
def test_a_secret_file_without_a_secret_is_refused(monkeypatch, tmp_path, contents):
    file = tmp_path / "secret"
    if contents is not None:
        file.write_text(contents, encoding="utf-8")
    monkeypatch.setenv("X_FILE", str(file))

    with pytest.raises(ImproperlyConfigured, match="X_FILE="):
        env.secret("X")


def test_a_database_address_is_never_repeated_in_an_error():
    with pytest.raises(ImproperlyConfigured) as refused:
        database("postgres://user:hunter2@[nowhere")

    assert "hunter2" not in str(refused.value)


def test_the_generated_key_is_kept_and_private(tmp_path):
    file = tmp_path / "new" / "secret_key"

    key = kept_key(file)

    assert len(key) >= 50
    assert kept_key(file) == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_processes_that_start_together_agree_on_one_key(tmp_path):
    with get_context("spawn").Pool(4) as pool:
        keys = pool.map(kept_key, [tmp_path / "secret_key"] * 16, chunksize=1)

    assert len(set(keys)) == 1


def test_an_empty_key_file_is_refused(tmp_path):
    (tmp_path / "secret_key").touch()

    with pytest.raises(ImproperlyConfigured, match="is empty"):
        kept_key(tmp_path / "secret_key")


def test_every_kind_names_a_processor_and_a_queue_that_exist(db):
    for kind in registry.kinds().values():
        assert kind.processor.recycle_after > 0
        assert Queue.objects.filter(name=kind.queue).exists()

"""Models are checked as tasks would reach them: by command, in the admin, and by doctor."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from batches import model_profiles, operations
from batches.management import diagnosis
from batches.models import ModelProfile
from tests.model_protocol import Asked, Reply
from tests.model_server import ModelServer

# What a model server says does not depend on the database.
pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]

AWAY = "http://127.0.0.1:9"


def silent(asked: Asked) -> Reply:
    raise AssertionError(f"a check asks a model nothing, but: {asked}")


@pytest.fixture
def ollama(settings: Any) -> Any:
    """An Ollama with the usual models, where OLLAMA_BASE_URL says."""
    models = {"qwen2.5-coder:7b": 4_700_000_000, "llama3.2:latest": 2_000_000_000}
    with ModelServer(silent, models=models) as server:
        at(settings, server.url)
        yield server


def at(settings: Any, url: str) -> None:
    settings.OLLAMA_BASE_URL = url
    settings.PROCESSOR_SETTINGS = settings.PROCESSOR_SETTINGS | {"ollama_base_url": url}


def model(*arguments: Any, **options: Any) -> str:
    out = StringIO()
    call_command("model", *map(str, arguments), stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


def models_found() -> dict[tuple[str, str], str]:
    return {(found.subject, found.mark): found.text for found in diagnosis._models()}


def test_a_model_that_is_there_is_told_with_its_server(ollama: ModelServer, admin: Any) -> None:
    ollama.loaded["qwen2.5-coder:7b"] = "10m"
    model("add", "fast", "--model", "qwen2.5-coder:7b", user="admin")
    said = model("check", "fast", "llama3.2")
    assert f"fast is there on {ollama.url} (version " in said
    assert "and it is loaded" in said
    assert "llama3.2 is there on" in said
    assert "not loaded yet" in said
    assert "In memory there: qwen2.5-coder:7b" in said


def test_without_names_all_profiles_and_the_usual_models_are_checked(
    ollama: ModelServer, admin: Any
) -> None:
    model("add", "fast", "--model", "llama3.2", user="admin")
    model("add", "off", "--endpoint", AWAY, user="admin")
    operations.change_model(ModelProfile.objects.get(name="off"), enabled=False)
    told = json.loads(model("check", "--json"))
    assert {one["name"]: one["ok"] for one in told} == {
        "fast": True,
        "qwen2.5-coder:7b": True,
        "llama3.2": True,
    }


def test_what_is_missing_comes_with_the_command_to_run(ollama: ModelServer, admin: Any) -> None:
    model("add", "there", "--endpoint", AWAY, user="admin")
    with pytest.raises(CommandError) as refused:
        model("check", "there", "missing:1b", "llama3.2")
    [first, second] = sorted(str(refused.value).splitlines())
    assert "run `ollama pull missing:1b`" in first
    assert "run `ollama serve`" in second


def test_an_openai_compatible_server_with_a_key_is_checked_too(
    settings: Any, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer(silent, models={"gpt": 0}, api_key="k1") as server:
        values = ("--protocol", "openai", "--endpoint", server.url, "--secret", "env:MODEL_KEY")
        model("add", "gpt", *values, user="admin")
        with pytest.raises(CommandError, match="environment has no MODEL_KEY"):
            model("check", "gpt")
        monkeypatch.setenv("MODEL_KEY", "k1")
        assert "gpt is there on" in model("check", "gpt")


def test_models_are_listed_and_forgotten(admin: Any) -> None:
    model("add", "fast", "--model", "qwen2.5-coder:7b", "--parallel", "2", user="admin")
    [told] = json.loads(model("list", "--json"))
    assert (told["name"], told["model"], told["parallel"]) == ("fast", "qwen2.5-coder:7b", 2)
    assert "as qwen2.5-coder:7b" in model("list")
    model("remove", "fast", user="admin")
    assert not ModelProfile.objects.exists()
    with pytest.raises(CommandError, match="There is no model 'fast'"):
        model("remove", "fast", user="admin")


def test_a_wrong_model_is_refused_by_the_command(admin: Any) -> None:
    with pytest.raises(CommandError, match="keep_alive: Must be a time"):
        model("add", "fast", "--keep-alive", "long", user="admin")


def test_doctor_is_content_where_the_usual_models_are_there(ollama: ModelServer) -> None:
    found = models_found()
    assert found.keys() == {("model qwen2.5-coder:7b", "ok"), ("model llama3.2", "ok")}


def test_doctor_says_what_to_run_and_fails_only_for_what_was_set_up(settings: Any) -> None:
    at(settings, AWAY)
    [(where, words)] = models_found().items()
    assert where == ("models", "warning")
    assert words.startswith(f"llama3.2, qwen2.5-coder:7b: Ollama does not answer on {AWAY}")
    assert "`ollama serve`" in words
    operations.add_model("llama3.2")
    found = models_found()
    assert found.keys() == {("models", "warning"), ("model llama3.2", "failed")}


def test_doctor_names_what_it_had_no_time_to_ask(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(settings, AWAY)
    monkeypatch.setattr(diagnosis, "MODELS_WITHIN", 0.0)
    assert models_found() == {
        ("models", "warning"): "No time was left to ask: llama3.2, qwen2.5-coder:7b."
    }


@pytest.fixture
def browser(admin: Any, client: Client) -> Client:
    type(admin).objects.filter(pk=admin.pk).update(is_staff=True)
    client.force_login(admin)
    return client


LIST = "/admin/batches/modelprofile/"


def form(**values: Any) -> dict[str, Any]:
    profile = ModelProfile(**values)
    fields = ["name", *model_profiles.FIELDS]
    given = {name: getattr(profile, name) for name in fields}
    return {name: value for name, value in given.items() if value not in {None, False}}


def test_a_model_is_set_up_in_the_admin(browser: Client) -> None:
    answer = browser.post(f"{LIST}add/", form(name="fast", model="m", num_ctx=8192, parallel=2))
    assert answer.status_code == 302, answer.text
    profile = ModelProfile.objects.get()
    assert (profile.name, profile.model, profile.num_ctx, profile.parallel, profile.enabled) == (
        "fast", "m", 8192, 2, True,
    )  # fmt: skip
    browser.post(f"{LIST}{profile.pk}/change/", form(name="other", model="n", num_ctx=8192))
    profile.refresh_from_db()
    assert (profile.name, profile.model, profile.parallel) == ("fast", "n", None)
    listed = browser.get(LIST).text
    assert "8,192 tokens" in listed
    assert "no limit" in listed
    browser.post(f"{LIST}{profile.pk}/delete/", {"post": "yes"})
    assert not ModelProfile.objects.exists()


def test_what_is_wrong_stands_beside_the_field(browser: Client) -> None:
    answer = browser.post(f"{LIST}add/", form(name="two words"))
    assert "Use letters, digits" in answer.text
    answer = browser.post(f"{LIST}add/", form(name="m", keep_alive="long", protocol="openai"))
    assert answer.status_code == 200
    for words in ("Must be a time such as 10m", "Say where the server is."):
        assert words in answer.text
    assert not ModelProfile.objects.exists()


def test_the_admin_shows_the_health_of_a_server_and_what_it_has_loaded(
    browser: Client, ollama: ModelServer
) -> None:
    ollama.loaded["llama3.2:latest"] = "10m"
    there = operations.add_model("llama3.2")
    missing = operations.add_model("missing:1b")
    said = browser.post(f"{LIST}{there.pk}/check/", follow=True).text
    assert f"llama3.2 is there on {ollama.url} (version" in said
    assert "In memory there: llama3.2:latest" in said
    chosen = {"action": "check", "_selected_action": [str(there.pk), str(missing.pk)]}
    said = browser.post(LIST, chosen, follow=True).text
    assert "ollama pull missing:1b" in said
    assert "llama3.2 is there on" in said


def test_who_may_only_look_changes_and_checks_nothing(viewer: Any, client: Client) -> None:
    type(viewer).objects.filter(pk=viewer.pk).update(is_staff=True)
    client.force_login(viewer)
    profile = operations.add_model("fast", secret="env:KEY", num_ctx=4096)
    page = client.get(f"{LIST}{profile.pk}/change/").text
    assert "4,096 tokens" in page
    assert "/check/" not in page
    assert client.post(f"{LIST}{profile.pk}/check/").status_code == 403
    assert client.post(f"{LIST}add/", form(name="x")).status_code == 403
    assert client.post(f"{LIST}{profile.pk}/delete/", {"post": "yes"}).status_code == 403

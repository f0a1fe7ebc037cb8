"""Models: what is stored of them, what slots are told, and whom a disabled one holds back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry

from batches import model_profiles, operations
from batches.audit import Actor, Via
from batches.models import Batch, ModelProfile
from batches.submission import InvalidSubmission, Item

pytestmark = pytest.mark.django_db


def told(name: str) -> dict[str, Any]:
    return model_profiles.processor_settings()["models"][name]


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"name": "two words"}, "name", "letters, digits"),
        ({"name": "x" * 101}, "name", "100 characters"),
        ({"protocol": "grpc"}, "protocol", "not a valid choice"),
        ({"protocol": "openai"}, "endpoint", "where the server is"),
        ({"endpoint": "localhost:11434"}, "endpoint", "http://127.0.0.1:11434"),
        ({"endpoint": "http://me:secret@host"}, "endpoint", "no user and password"),
        ({"num_ctx": 10}, "num_ctx", "256"),
        ({"temperature": 3.0}, "temperature", "2.0"),
        ({"keep_alive": "ten minutes"}, "keep_alive", "10m"),
        ({"secret": "hunter2"}, "secret", "neither env:NAME nor file:/PATH"),
        ({"secret": "env:SECRET_KEY"}, "secret", "secret of the console"),
        ({"parallel": 0}, "parallel", "1"),
        ({"max_requests": 0}, "max_requests", "1"),
        ({"request_timeout": 4000}, "request_timeout", "3300"),
        (
            {"protocol": "openai", "endpoint": "http://h", "num_ctx": 4096},
            "num_ctx",
            "Only Ollama",
        ),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_stored(
    values: dict[str, Any], field: str, words: str
) -> None:
    values = {"name": "m", **values}
    with pytest.raises(InvalidSubmission) as refused:
        operations.add_model(values.pop("name"), **values)
    assert not ModelProfile.objects.exists()
    [said] = [error.message for error in refused.value.errors if error.field == field]
    assert words.lower() in said.lower()


@pytest.mark.parametrize("name", ["qwen2.5-coder:7b", "hf.co/unsloth/Qwen3-GGUF:Q4_K_M", "fast"])
def test_a_model_may_have_any_name_that_ollama_knows(name: str) -> None:
    assert operations.add_model(name).name == name


def test_a_name_is_taken_once() -> None:
    operations.add_model("m")
    with pytest.raises(InvalidSubmission, match="taken"):
        operations.add_model("m")


def test_slots_are_told_of_a_model_what_it_does_not_say_itself(settings: Any) -> None:
    settings.OLLAMA_BASE_URL = "http://ollama:11434"
    operations.add_model("m")
    assert told("m") == {
        "protocol": "ollama",
        "endpoint": "http://ollama:11434",
        "model": "m",
        "num_ctx": None,
        "temperature": None,
        "keep_alive": "",
        "api_key": "",
        "max_requests": 60,
        "max_tool_calls": 300,
        "max_tokens": 400_000,
        "max_files": 50,
        "max_bytes": 1024 * 1024,
        "request_timeout": 300,
        "problem": "",
    }


@pytest.mark.parametrize("given", ["https://h/openai", "https://h/openai/", "https://h/openai/v1/"])
def test_an_endpoint_is_the_root_whether_or_not_its_version_was_given(given: str) -> None:
    assert operations.add_model("m", endpoint=given).endpoint == "https://h/openai"


def test_an_api_key_is_found_where_the_worker_runs_and_is_stored_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("from a file\n")
    monkeypatch.setenv("MODEL_KEY", "from the environment")
    operations.add_model("a", secret="env:MODEL_KEY")
    operations.add_model("b", secret=f"file:{tmp_path}/key")
    assert (told("a")["api_key"], told("b")["api_key"]) == ("from the environment", "from a file")
    assert "from" not in str(list(ModelProfile.objects.values()))
    monkeypatch.delenv("MODEL_KEY")
    assert told("a")["api_key"] == ""
    assert told("a")["problem"] == (
        "its API key cannot be read: the worker's environment has no MODEL_KEY"
    )


def test_two_changes_of_different_fields_both_count() -> None:
    operations.add_model("m")
    one, other = ModelProfile.objects.get(), ModelProfile.objects.get()
    operations.change_model(one, num_ctx=8192)
    operations.change_model(other, parallel=2)
    kept = ModelProfile.objects.get()
    assert (kept.num_ctx, kept.parallel) == (8192, 2)


def test_a_change_that_is_wrong_changes_nothing() -> None:
    profile = operations.add_model("m", num_ctx=8192)
    with pytest.raises(InvalidSubmission):
        operations.change_model(profile, num_ctx=4096, keep_alive="never")
    assert ModelProfile.objects.get().num_ctx == 8192


def test_a_disabled_model_is_a_problem_and_takes_no_new_tasks(operator, make_batch) -> None:
    profile = operations.add_model("m", enabled=False)
    operations.add_model("n")
    assert told("m")["problem"] == "it is disabled"
    with pytest.raises(InvalidSubmission) as refused:
        make_batch(operator, items=[Item({"models": ["n", "m"]})], kind="modelled")
    assert [(e.field, e.message) for e in refused.value.errors] == [
        ("items[0].models", "The model m is disabled.")
    ]
    assert not Batch.objects.exists()
    operations.change_model(profile, enabled=True)
    make_batch(operator, items=[Item({"models": ["n", "m"]})], kind="modelled")


def test_each_change_is_in_the_history(admin) -> None:
    by = Actor(admin, Via.API)
    profile = operations.add_model("m", by=by)
    operations.change_model(profile, num_ctx=8192, secret="env:KEY", by=by)
    operations.remove_model(profile, by=by)
    words = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
    assert list(words) == [
        "Added, over the API.",
        "Changed: num ctx, secret, over the API.",
        "Removed, over the API.",
    ]


def test_a_model_is_added_changed_checked_and_forgotten_over_the_api(
    client_of: Any, admin: Any, viewer: Any
) -> None:
    client = client_of(admin)
    made = client.post("/batch/models", {"name": "big", "endpoint": "http://127.0.0.1:9/v1"})
    assert made.status_code == 201
    assert made.json()["endpoint"] == "http://127.0.0.1:9"
    place = f"/batch/models/{made.json()['id']}"
    assert made["Location"].endswith(place)
    assert [each["name"] for each in client_of(viewer).get("/batch/models").json()["results"]] == [
        "big"
    ]
    wanted = {"parallel": 2, "temperature": 0, "keep_alive": "", "secret": "env:BIG_KEY"}
    changed = client.patch(place, wanted).json()
    assert wanted.items() <= changed.items()
    assert client.get(place).json() == changed
    checked = client.post(f"{place}/check").json()
    assert not checked["ok"]
    assert "BIG_KEY" in checked["reason"]
    assert client.delete(place).status_code == 204
    assert client.get(place).status_code == 404
    told = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
    assert len(told) == 3
    assert "BIG_KEY" not in " ".join(told)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"name": "a b"}, "name", "letters, digits"),
        ({"name": "m", "temperature": True}, "temperature", "a number"),
        ({"name": "m", "temperature": "0.5"}, "temperature", "a number"),
        ({"name": "m", "temperature": 2.5}, "temperature", "2"),
        ({"name": "m", "temperature": 10**400}, "temperature", "too large"),
        ({"name": "m", "parallel": 0}, "parallel", "1"),
        ({"name": "m", "request_timeout": 3301}, "request_timeout", "3300"),
        ({"name": "m", "keep_alive": "soon"}, "keep_alive", "10m"),
        ({"name": "m", "secret": "hunter2"}, "secret", "env:NAME"),
        ({"name": "m", "protocol": "openai"}, "endpoint", "where the server is"),
        ({"name": "m", "endpoint": "http://me:secret@host"}, "endpoint", "no user and password"),
        ({"name": "m", "colour": "red"}, "colour", "Unknown"),
        ({}, "name", "required"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_over_the_api(
    body: dict[str, Any], field: str, words: str, client_of: Any, admin: Any
) -> None:
    refused = client_of(admin).post("/batch/models", body)
    assert refused.status_code == 400
    [error] = refused.json()["errors"]
    assert error["field"] == field
    assert words in error["message"]
    assert not ModelProfile.objects.exists()

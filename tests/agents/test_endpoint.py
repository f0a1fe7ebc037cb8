"""What is found at a model's endpoint, and how a model is made ready there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents.coding.endpoint import derived_name, ready
from agents.coding.profile import USUAL_WINDOW, Profile
from agents.contract import StillAway
from agents.processors.agent import AgentProcessor
from tests.model_protocol import EMPTY, Reply, page
from tests.model_server import ModelServer


def serving(**told: Any) -> ModelServer:
    """A server that nobody is to ask for an answer."""

    def answer(_asked: object) -> Reply:
        raise AssertionError("a look at a server asks no model")

    return ModelServer(answer, **told)


def look(server: ModelServer, name: str = "coder", **profile: object) -> Any:
    told = {"models": {name: {"endpoint": server.url, **profile}}} if profile else {}
    return AgentProcessor().probe(f"model:{name}", {"ollama_base_url": server.url, **told})


def test_ollama_tells_its_version_the_model_and_what_is_loaded() -> None:
    with serving(loaded={"reviewer": "5m"}) as server:
        found = look(server)
        assert found == {
            "endpoint": server.url,
            "model": "coder",
            "version": "0.13.0",
            "loaded": False,
            "size": 1000,
            "num_ctx": USUAL_WINDOW,
            "running": [
                {
                    "name": "reviewer:latest",
                    "size": 2000,
                    "num_ctx": 4096,
                    "until": "2030-01-01T00:00:00Z",
                }
            ],
        }
        assert not server.calls["/api/generate"], "a look loads nothing"


def test_a_model_is_loaded_under_its_own_name_or_with_its_window() -> None:
    with serving(loaded={"coder:latest": "5m"}) as server:
        assert look(server)["loaded"] is True
    with serving(windows={"coder:latest-ctx8192": 8192}) as server:
        server.loaded["coder:latest-ctx8192"] = "5m"
        assert look(server, num_ctx=8192)["loaded"] is True


@pytest.mark.parametrize(("protocol", "window"), [("openai", None), ("ollama", USUAL_WINDOW)])
def test_a_server_with_openais_calls_will_do_for_both(protocol: str, window: int | None) -> None:
    unknown = Reply(status=404, body="404 page not found", content_type="text/plain")

    def fails(path: str) -> Reply | None:
        return unknown if path.startswith("/api/") else None

    with serving(fails=fails) as server:
        found = look(server, protocol=protocol)
        profile = Profile("coder", "coder", endpoint=server.url, num_ctx=4096)
        assert ready(profile) == "coder"
    assert found == {
        "endpoint": server.url,
        "model": "coder",
        "version": None,
        "loaded": None,
        "size": None,
        "num_ctx": window,
        "running": [],
    }


def test_a_model_that_is_not_there_is_said_with_what_brings_it() -> None:
    with serving() as server:
        with pytest.raises(StillAway, match=r"run `ollama pull llama3\.2`"):
            look(server, "llama3.2")
        with pytest.raises(StillAway, match="it has coder, reviewer"):
            look(server, "big", protocol="openai")


def test_what_answers_is_not_taken_for_a_model_server_unless_it_is_one() -> None:
    missing = Reply(status=404, body="<h1>Not found</h1>", content_type="text/html")
    for reply in (page(), missing, Reply(body="[]"), Reply(body='{"error": "x"}', status=502)):
        with serving(fails=lambda _path, reply=reply: reply) as server, pytest.raises(StillAway):
            look(server)


def test_an_endpoint_that_tells_without_end_is_not_listened_to_for_ever() -> None:
    endless = Reply(body='{"version": "' + "x" * 65_536, breaks="never ends")
    with serving(fails=lambda _path: endless) as server:
        with pytest.raises(StillAway, match="/api/version answered more than 4,194,304 bytes"):
            look(server)
        assert server.calls["/api/version"] == 1


def test_a_profile_with_a_problem_asks_nobody() -> None:
    with serving() as server:
        with pytest.raises(StillAway, match="MODEL_KEY is not set"):
            look(server, problem="MODEL_KEY is not set")
        assert not server.calls


def test_a_window_is_derived_once_and_again_when_the_model_is_newer() -> None:
    with serving() as server:
        profile = Profile("coder", "coder", endpoint=server.url, num_ctx=8192, keep_alive="30m")
        assert [ready(profile), ready(profile)] == ["coder:latest-ctx8192"] * 2
        assert server.calls["/api/create"] == 1
        assert server.windows == {"coder:latest-ctx8192": 8192}
        assert server.loaded == {"coder:latest-ctx8192": "30m"}
        server.pulled_at = "2026-06-01T10:00:00Z"
        ready(profile)
        assert server.calls["/api/create"] == 2
        ready(replace(profile, num_ctx=4096))
        assert server.windows["coder:latest-ctx4096"] == 4096


def test_without_a_window_the_model_is_loaded_as_it_is() -> None:
    with serving() as server:
        assert ready(Profile("coder", "coder", endpoint=server.url)) == "coder"
        assert server.loaded == {"coder": "5m"}
        assert not server.calls["/api/create"]


def test_the_name_of_a_derived_model_keeps_host_and_tag() -> None:
    assert derived_name("qwen2.5-coder:7b", 16384) == "qwen2.5-coder:7b-ctx16384"
    assert derived_name("llama3.2", 8192) == "llama3.2:latest-ctx8192"
    assert derived_name("hub:5000/me/m", 1024) == "hub:5000/me/m:latest-ctx1024"


def test_an_api_key_is_sent_and_never_told() -> None:
    with ModelServer(lambda _asked: EMPTY, fails=lambda _path: None) as server:
        found = look(server, protocol="openai", api_key="s3cret")
        assert "s3cret" not in str(found)
    assert set(server.keys) == {"Bearer s3cret"}

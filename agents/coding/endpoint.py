"""What a model server says of itself and of a model, and how a model is made ready on Ollama.

Ollama's own calls: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import functools
import ssl
from datetime import datetime, timedelta
from typing import Any

import httpx

from agents.coding.profile import Profile
from agents.contract import JSON, StillAway

LOOK = timedelta(seconds=10)
MOST_BYTES = 4 * 1024 * 1024
"""Of an answer. What Ollama tells of a model is half a kilobyte."""
LONGEST_TOLD = 300
"""Characters of what a server answered, where it should have answered something else."""


class ModelMissing(StillAway):
    """The server answers, and has no such model."""


class CallUnknown(StillAway):
    """The server answers, and does not know the call."""


def look(profile: Profile) -> JSON:
    """What is there now, without loading anything.

    Where Ollama is expected, any server with OpenAI's calls will do: it has no own version.

    ``{"endpoint", "model", "version", "loaded", "size", "num_ctx", "running"}``: ``size`` in bytes
    on disk, ``num_ctx`` as configured, ``running`` what Ollama has in memory. What a server of the
    other protocol does not tell is null or empty.

    Raises:
        StillAway: it does not answer as such a server does, or lacks the model; says what to do.
    """
    if profile.problem:
        raise StillAway(profile.problem)
    with _client(profile, LOOK) as server:
        found = _found(server, profile)
    return {"endpoint": profile.endpoint, "model": profile.model, **found}


def ready(profile: Profile) -> str:
    """Load the model; returns the name to ask for.

    On Ollama the window of a profile is made real by a model derived from the profile's: its
    OpenAI-compatible calls take no ``num_ctx``, and cut what is longer without a word.

    Raises:
        StillAway: as ``look``, or the model cannot be loaded.
    """
    if look(profile)["version"] is None:
        return profile.model
    name = profile.model
    with _client(profile, timedelta(seconds=profile.request_timeout)) as server:
        if profile.num_ctx is not None:
            name = derived_name(profile.model, profile.num_ctx)
        if profile.num_ctx is not None and not _is_derived(server, profile, name):
            parameters = {"num_ctx": profile.num_ctx}
            _answer(server, profile, "/api/create", {
                "model": name, "from": profile.model, "parameters": parameters, "stream": False,
            })  # fmt: skip
        keep = {"keep_alive": profile.keep_alive} if profile.keep_alive else {}
        _answer(server, profile, "/api/generate", {"model": name, "stream": False, **keep})
    return name


def derived_name(model: str, num_ctx: int) -> str:
    """What the model with this window is called: ``qwen2.5-coder:7b-ctx16384``."""
    return f"{_full(model)}-ctx{num_ctx}"


def _is_derived(server: httpx.Client, profile: Profile, name: str) -> bool:
    """Is it there already, and no older than what it was made from?"""
    made = {
        _full(str(entry.get("name"))): datetime.fromisoformat(entry["modified_at"])
        for entry in _entries(_answer(server, profile, "/api/tags"))
        if entry.get("modified_at")
    }
    base = _full(profile.model)
    return name in made and base in made and made[name] >= made[base]


def _look_ollama(server: httpx.Client, profile: Profile) -> JSON:
    models = _entries(_answer(server, profile, "/api/tags"))
    names = {_full(profile.model)}
    mine = next((entry for entry in models if _full(str(entry.get("name"))) in names), None)
    if mine is None:
        raise ModelMissing(profile.missing)
    if profile.num_ctx is not None:
        names.add(derived_name(profile.model, profile.num_ctx))
    running = [
        {
            "name": entry.get("name"),
            "size": entry.get("size"),
            "num_ctx": entry.get("context_length"),
            "until": entry.get("expires_at"),
        }
        for entry in _entries(_answer(server, profile, "/api/ps"))
    ]
    return {
        "loaded": any(_full(str(entry["name"])) in names for entry in running),
        "size": mine.get("size"),
        "num_ctx": profile.num_ctx,
        "running": running,
    }


def _look_openai(server: httpx.Client, profile: Profile) -> JSON:
    answer = _answer(server, profile, "/v1/models")
    listed = answer.get("data")
    names = {str(entry.get("id")) for entry in listed or () if isinstance(entry, dict)}
    if profile.model not in names:
        raise ModelMissing(f"{profile.missing}; it has {', '.join(sorted(names)) or 'none'}")
    return {"loaded": None, "size": None, "num_ctx": profile.num_ctx,
            "running": []}  # fmt: skip


def _found(server: httpx.Client, profile: Profile) -> JSON:
    if profile.protocol == "ollama":
        try:
            version = str(_answer(server, profile, "/api/version").get("version"))
        except CallUnknown:
            pass
        else:
            return {"version": version, **_look_ollama(server, profile)}
    return {"version": None, **_look_openai(server, profile)}


def _client(profile: Profile, timeout: timedelta) -> httpx.Client:
    # Compressed, a small answer could become a very large one.
    headers = {"Accept-Encoding": "identity"}
    if profile.api_key:
        headers["Authorization"] = f"Bearer {profile.api_key}"
    connecting = httpx.Timeout(timeout.total_seconds(), connect=LOOK.total_seconds())
    return httpx.Client(
        base_url=profile.endpoint, headers=headers, timeout=connecting, verify=_authorities()
    )


@functools.cache
def _authorities() -> ssl.SSLContext:
    """Read once: it takes 25 ms, and there are two clients in an attempt."""
    return httpx.create_ssl_context()


def _read(server: httpx.Client, path: str, body: JSON | None) -> httpx.Response:
    """The whole answer.

    Raises:
        StillAway: it has more than ``MOST_BYTES``.
        HTTPError, InvalidURL: there is none.
    """
    method = "GET" if body is None else "POST"
    with server.stream(method, path, json=body) as response:
        content = bytearray()
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > MOST_BYTES:
                raise StillAway(f"{response.url} answered more than {MOST_BYTES:,} bytes")
        return httpx.Response(response.status_code, content=bytes(content))


def _answer(
    server: httpx.Client, profile: Profile, path: str, body: JSON | None = None
) -> dict[str, Any]:
    try:
        response = _read(server, path, body)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StillAway(f"{profile.unreachable} ({str(error) or type(error).__name__})") from error
    said = response.text.strip()[:LONGEST_TOLD]
    if response.status_code == httpx.codes.NOT_FOUND:
        if body is not None:
            raise ModelMissing(profile.missing)
        raise CallUnknown(f"{profile.endpoint}{path} is not there; is that a model server? {said}")
    if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise StillAway(f"{profile.endpoint} wants another API key than the profile's: {said}")
    if not response.is_success:
        raise StillAway(f"{profile.endpoint}{path} answered {response.status_code}: {said}")
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise StillAway(
            f"{profile.endpoint}{path} answered what no {profile.protocol} server does; is that "
            f"the right address? {said}"
        )
    return answer


def _entries(answer: dict[str, Any]) -> list[dict[str, Any]]:
    models = answer.get("models") or []
    return [entry for entry in models if isinstance(entry, dict)]


def _full(name: str) -> str:
    """A name without a tag is that of the tag ``latest``; a host before it may have a port."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"

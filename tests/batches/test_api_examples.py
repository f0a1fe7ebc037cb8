"""The examples of the OpenAPI document: requests are taken, answers have what real ones have."""

from __future__ import annotations

import csv
import json
from xml.etree import ElementTree as ET

import pytest
from django.core.files.base import ContentFile
from prometheus_client.parser import text_string_to_metric_families

from batches import operations, registry
from batches.api import story
from batches.api.schema import document
from batches.api.submissions import SERIALIZERS
from batches.models import Artefact, LogLine, Task, Worker
from batches.states import AttemptOutcome
from batches.submission import Item
from tests.batches.test_api_schema import answer_schema, validator

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]

ENDPOINTS = {kind.endpoint for kind in registry.kinds().values() if kind.name in SERIALIZERS}
OF_TESTS = {kind.endpoint for kind in registry.kinds().values()} - ENDPOINTS
"""Kinds of the tests' own settings, whose items are none of the console's."""
CALLS = [
    (method.upper(), path)
    for path, operations in document()["paths"].items()
    for method in operations
    if path.rpartition("/")[2] not in OF_TESTS
]
OPEN = {"payload", "variables", "headers", "secrets", "kind", "queue", "paths", "components"}
"""Their names are of what the rows hold, or of what is there to be listed."""


def shape(value):
    """The names in it, at every depth; of a list of objects, those of the first."""
    if isinstance(value, list):
        return [shape(each) for each in value[:1] if isinstance(each, dict)]
    if not isinstance(value, dict):
        return None
    return {name: None if name in OPEN else shape(each) for name, each in value.items()}


def written(method, path):
    return document()["paths"][path][method.lower()]


def examples(content):
    """Of one media type."""
    if "examples" in content:
        return [each["value"] for each in content["examples"].values()]
    return [content["example"]]


@pytest.fixture
def world(settings, monkeypatch, tmp_path, make_batch, make_workspace, admin, finish):
    """What the examples ask for, under the names and in the places that they give."""
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr("batches.dispatch.nudge", lambda: False)
    (tmp_path / "src").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_example.py").write_text("def test_it(): pass\n")
    make_workspace("shop", "operator", environment=story.WORKSPACE["environment"])
    operations.add_workspace("unused", tmp_path)
    operations.add_mcp_server("search", url="http://127.0.0.1:9/mcp", tools=["search"])
    operations.add_mcp_server("unused", url="http://127.0.0.1:9/mcp")
    model = operations.add_model("other:1b", endpoint="http://127.0.0.1:9")
    Worker.objects.create(name="w1", backend="database", host="h", pid=1, slots=2)

    def made(kind, outcome, result, backend="database", item=None):
        items = [Item(item or {"path": "tests/test_basket.py"})]
        batch = make_batch(admin, items=items, kind=kind, workspace="shop", backend=backend)
        if outcome:
            finish(outcome, result=result, error=story.REASON)
        return batch, batch.tasks.get()

    rejected = AttemptOutcome.REJECTED
    found = {"path": "a", "ok": False, "checks": {}, "findings": [story.FINDING], "total": 1,
             "truncated": False}  # fmt: skip
    celery = made("test", None, None, backend="celery")
    on_celery = {"state": "failed", "failure": "rejected", "attempt": 1, "result": story.RESULT}
    Task.objects.filter(pk=celery[1].pk).update(**on_celery)
    waits = made("test", None, None, backend="celery")
    checked = made("validation", rejected, found)
    agent = made("agent", AttemptOutcome.SUCCEEDED, story.PATCHED, item=story.AGENT)
    patch = ContentFile(b"--- a/shop.py\n", "changes.patch")
    diff = Artefact.objects.create(
        task=agent[1], attempt=1, name="changes.patch", media_type="text/x-diff", size=1, file=patch
    )
    ran = made("test", rejected, story.RESULT)
    report = ContentFile(story.JUNIT.encode(), "junit.xml")
    kept = Artefact.objects.create(
        task=ran[1], attempt=1, name="junit.xml", media_type="application/xml", size=1, file=report
    )
    line = {name: story.LOG_LINE[name] for name in ("attempt", "at", "event", "fields")}
    LogLine.objects.create(task=ran[1], **line)
    said = {name: story.SAID[name] for name in ("attempt", "at", "event", "fields")}
    LogLine.objects.create(task=agent[1], **said)
    yield {
        "/batch/celery/group/{id}": celery[0].pk, "/batch/celery/task/{id}": celery[1].pk,
        "/batch/{id}/sarif": checked[0].pk, "/batch/models": model.pk,
        "PATCH /batch/{id}": waits[0].pk, "DELETE /batch/{id}": waits[0].pk,
        "/batch/{id}": ran[0].pk, "/batch/tasks/{id}": ran[1].pk,
        "PATCH /batch/tasks/{id}": waits[1].pk, "/batch/tasks/{id}/cancel": waits[1].pk,
        "/batch/tasks/{id}/apply": agent[1].pk, "/batch/tasks/{id}/discard": agent[1].pk,
        "/batch/tasks/{id}/keep": agent[1].pk, "/batch/tasks/{id}/transcript": agent[1].pk,
    }  # fmt: skip
    diff.file.delete(save=False)
    kept.file.delete(save=False)


NAMES = {
    "/batch/queues": "tests", "/batch/workspaces": "shop", "/batch/mcp-servers": "search",
    "/batch/tasks": "junit.xml",
}  # fmt: skip


def address(world, method, path):
    """The most telling of the world's ids, by the longest beginning of the path."""
    whole = [key for key in (f"{method} {path}", path) if key in world]
    begun = sorted((key for key in world if path.startswith(key)), key=len, reverse=True)
    found = [world[key] for key in (*whole, *begun)]
    name = next((name for start, name in NAMES.items() if path.startswith(start)), "")
    if method == "DELETE":
        name = "unused"
    return path.replace("{id}", str(found[0]) if found else "").replace("{name}", name)


def sent(client, method, where, media_type, body):
    text = body if isinstance(body, str) else json.dumps(body)
    return client.generic(method, where, text.encode(), content_type=media_type)


def real(value, tmp_path):
    """A folder of this machine in the place of the example's, and a name that is free."""
    if not isinstance(value, dict) or value.get("name") not in {"shop", "search"}:
        return value
    path = {"path": str(tmp_path)} if "path" in value else {}
    return value | path | {"name": f"new-{value['name']}"}


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_every_body_is_taken_and_its_answer_told(
    method, path, world, client_of, admin, tmp_path, monkeypatch
):
    monkeypatch.setenv("SEARCH_TOKEN", "t-1")
    client, call = client_of(admin), written(method, path)
    bodies = call.get("requestBody", {}).get("content", {"application/json": {"example": ""}})
    for media_type, content in bodies.items():
        for body in examples(content):
            if body != "":
                validator(content["schema"]).validate(body)
                assert body or content["schema"].get("properties", {}) == {}
            where = address(world, method, path)
            response = sent(client, method, where, media_type, real(body, tmp_path))
            [status] = [code for code in call["responses"] if code < "300"]
            assert response.status_code == int(status), response.content
            told(response, method, path)


def told(response, method, path):
    """The example of this answer has its fields, and both fit what is written of them."""
    [status] = [code for code in written(method, path)["responses"] if code < "300"]
    told = written(method, path)["responses"][status].get("content", {})
    if not told:
        assert not response.content
        return
    media_type = response.headers["Content-Type"]
    content = told.get(media_type) or told.get(media_type.split(";")[0]) or told["*/*"]
    [example] = examples(content)
    assert example is not None, f"{method} {path} has no example of {media_type}"
    text = b"".join(response).decode() if response.streaming else response.content.decode()
    if isinstance(example, str):
        assert read(media_type, example) == read(media_type, text)
        return
    answer = json.loads(text.splitlines()[0] if "ndjson" in media_type else text)
    for each in (example, answer):
        validator(content["schema"]).validate(each)
    assert shape(answer) == shape(example)


def read(media_type, text):
    """What a text of it always has, however many rows it tells of."""
    if "xml" in media_type:
        root = ET.fromstring(text.encode())
        return root.tag, root[0].tag, set(root[0].attrib), {each.tag for each in root[0]}
    if "csv" in media_type:
        rows = list(csv.reader(text.splitlines()))
        assert {len(row) for row in rows} == {len(rows[0])}
        return rows[0]
    if "html" in media_type:
        return text.splitlines()[0]
    families = list(text_string_to_metric_families(text))
    return families[0].name, families[0].documentation, set(families[0].samples[0].labels)


@pytest.mark.parametrize("path", [path for method, path in CALLS if path.endswith("/results")])
def test_the_other_form_of_an_answer_has_an_example_too(path, world, client_of, admin):
    response = client_of(admin).get(f"{address(world, 'GET', path)}?format=csv")
    told(response, "GET", path)


@pytest.mark.parametrize("kind", sorted(SERIALIZERS))
def test_a_submission_is_answered_as_written(kind, world, client_of, admin, settings):
    settings.CELERY_BROKER_URL = ""
    address = f"/batch/{registry.kind(kind).endpoint}"
    post = written("POST", address)
    more = post["requestBody"]["content"]["application/json"]["examples"]["More"]["value"]
    response = client_of(admin).generic_json("POST", address, more)
    validator(answer_schema("POST", address, response)).validate(response.json())
    [example] = examples(post["responses"]["202"]["content"]["application/json"])
    different = {name for name, value in response.json().items() if value != example[name]}
    assert different == {"id", "created_at", "links"}
    assert response.headers["Location"] == response.json()["links"]["self"]


def test_a_refusal_is_told_as_written(world, client_of, admin):
    response = client_of(admin).generic_json("POST", story.PROBLEM["instance"], story.WRONG)
    assert document()["components"]["schemas"]["Problem"]["examples"] == [response.json()]

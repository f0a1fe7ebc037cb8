"""The OpenAPI document says what the API does: examples are taken, answers fit what is written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from django.conf import settings
from django.contrib.staticfiles import finders
from drf_spectacular.drainage import GENERATOR_STATS
from rest_framework.utils.encoders import JSONEncoder

from batches import registry
from batches.api.schema import Generator, document
from batches.api.submissions import SERIALIZERS
from batches.api.urls import urlpatterns
from batches.states import AttemptOutcome

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]

SUBMISSIONS = {f"/batch/{kind.endpoint}": kind.name for kind in registry.offered().values()}


def strict(schema):
    """The same, refusing the fields it does not name, which its readers have to bear with."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {}
    # The alternatives of a whole name some of its fields, and mean no other one.
    return closed | {
        name: each if name == "oneOf" else strict(each) for name, each in schema.items()
    }


def validator(schema):
    written = json.loads(json.dumps(document()["components"], cls=JSONEncoder))
    return jsonschema.Draft202012Validator(
        strict(schema) | {"components": strict(written)},
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )


def answer_schema(method, address, response):
    answers = document()["paths"][address][method.lower()]["responses"]
    media_type = response.headers["Content-Type"].split(";")[0]
    return answers[str(response.status_code)]["content"][media_type]["schema"]


def test_it_is_made_without_a_warning():
    Generator(urlconf="batches.api.urls").get_schema(request=None, public=True)
    assert not GENERATOR_STATS, (GENERATOR_STATS._warn_cache, GENERATOR_STATS._error_cache)


def test_it_is_a_valid_openapi_document():
    from drf_spectacular.validation import validate_schema

    validate_schema(json.loads(json.dumps(document(), cls=JSONEncoder)))


def test_it_names_every_address_and_method():
    written = {
        (path, method.lower())
        for path, operations in document()["paths"].items()
        for method in operations
    }
    served = set()
    for pattern in urlpatterns:
        if pattern.name == "nothing-here":
            continue
        methods = getattr(pattern.callback, "actions", None) or pattern.callback.view_class
        if not isinstance(methods, dict):
            methods = [name for name in methods.http_method_names if hasattr(methods, name)]
        regex = str(pattern.pattern)
        for path in {path for path, _ in written}:
            example = re.sub(r"\{name\}", "a", path).replace(
                "{id}", "0" * 8 + "-0000" * 3 + "-" + "0" * 12
            )
            if re.fullmatch(regex.removeprefix("^").removesuffix("$"), example.removeprefix("/")):
                served |= {(path, m) for m in methods if m not in {"options", "head"}}
                break
        else:
            pytest.fail(f"{regex} is not in the document")
    assert served == written


def test_every_call_has_a_summary_of_its_own_and_says_how_it_fails():
    summaries = []
    for path, operations in document()["paths"].items():
        for operation in operations.values():
            summaries.append(operation["summary"])
            if path != "/health/live":
                assert {"401", "403"} <= set(operation["responses"])
                assert operation["security"] == [{"token": []}, {"cookieAuth": []}]
    assert len(set(summaries)) == len(summaries)


def test_every_kind_is_documented_without_a_line_about_it():
    for address, kind in SUBMISSIONS.items():
        content = document()["paths"][address]["post"]["requestBody"]["content"]
        name = SERIALIZERS[kind].__name__ if kind in SERIALIZERS else "AnySubmission"
        assert content["application/json"]["schema"]["$ref"].endswith(f"/{name}")
        items = document()["components"]["schemas"][name]["properties"][registry.kind(kind).items]
        assert items["type"] == "array"


@pytest.fixture
def work(operator, red, make_batch, finish):
    """A finished task, a failed one, and one that waits."""
    batch = make_batch(operator, 3, workspace="red", max_attempts=1)
    leases = finish(AttemptOutcome.SUCCEEDED, AttemptOutcome.ERROR)
    return {"batch": batch.pk, "task": leases[1].task_id}


@pytest.mark.parametrize(
    ("method", "address", "documented", "body"),
    [
        ("GET", "/batch", "/batch", None),
        ("GET", "/batch/{batch}", "/batch/{id}", None),
        ("PATCH", "/batch/{batch}", "/batch/{id}", {"paused": True}),
        ("DELETE", "/batch/{batch}", "/batch/{id}", None),
        ("POST", "/batch/{batch}/retry", "/batch/{id}/retry", {"failure": ["error"]}),
        ("GET", "/batch/{batch}/tasks?page_size=1", "/batch/{id}/tasks", None),
        ("GET", "/batch/{batch}/comparison", "/batch/{id}/comparison", None),
        ("GET", "/batch/{batch}/comparison/items", "/batch/{id}/comparison/items", None),
        ("GET", "/batch/{batch}/sarif", "/batch/{id}/sarif", None),
        ("GET", "/batch/{batch}/junit", "/batch/{id}/junit", None),
        ("GET", "/batch/tasks", "/batch/tasks", None),
        ("GET", "/batch/tasks/{task}", "/batch/tasks/{id}", None),
        ("GET", "/batch/tasks/{task}/log", "/batch/tasks/{id}/log", None),
        ("GET", "/batch/tasks/{task}/transcript", "/batch/tasks/{id}/transcript", None),
        ("POST", "/batch/tasks/{task}/cancel", "/batch/tasks/{id}/cancel", None),
        ("GET", "/batch/stats", "/batch/stats", None),
        ("GET", "/batch/queues", "/batch/queues", None),
        ("PATCH", "/batch/queues/tests", "/batch/queues/{name}", {"paused": True}),
        ("GET", "/batch/workspaces", "/batch/workspaces", None),
        ("GET", "/batch/workspaces/red", "/batch/workspaces/{name}", None),
        ("GET", "/batch/workspaces/none", "/batch/workspaces/{name}", None),
        ("GET", "/batch/tasks?state=odd", "/batch/tasks", None),
        ("POST", "/batch/noop", "/batch/noop", {"items": [{"timeout": "x"}]}),
        ("GET", "/health/live", "/health/live", None),
        ("GET", "/health/ready", "/health/ready", None),
    ],
)  # fmt: skip
def test_an_answer_fits_its_schema(method, address, documented, body, work, client_of, admin):
    response = client_of(admin).generic_json(method, address.format(**work), body)
    validator(answer_schema(method, documented, response)).validate(response.json())


def test_options_tell_the_methods_of_every_address(client_of, admin):
    client = client_of(admin)
    for path, methods in document()["paths"].items():
        response = client.options(path.format(id="0" * 8 + "-0000" * 3 + "-" + "0" * 12, name="a"))
        assert response.status_code == 200, path
        allowed = set(response.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"}
        assert allowed == {method.upper() for method in methods}, path


@pytest.mark.parametrize(
    ("address", "body"),
    [
        ("/batch/noop", {"items": [{}], "name": "a\0b"}),
        ("/batch/noop", {"items": [{}], "parallel": 1_000_001}),
        ("/batch/noop", {"items": [{}], "max_attempts": 101}),
        ("/batch/noop", {"items": [{}], "timeout": 3301}),
        ("/batch/noop", {"items": [{}], "labels": [""]}),
        ("/batch/noop", {"items": [{"id": ""}]}),
        ("/batch/noop", {"items": [{}], "variants": [{"name": ""}]}),
        ("/batch/noop", {"items": [{}], "variants": [{"name": "a", "queue": "b" * 41}]}),
        (
            "/batch/validation",
            {"targets": [{"path": "a"}], "variants": [{"name": "b", "checks": []}]},
        ),
        ("/batch/validation", {"targets": [{"path": ""}]}),
        ("/batch/validation", {"targets": [{"path": "a"}], "checks": []}),
        ("/batch/mcp-operations", {"operations": [{"tool": "a", "arguments": ["b"]}]}),
        ("/batch/workspaces", {"name": "Red", "path": "/tmp"}),
        ("/batch/workspaces", {"name": "new", "path": ""}),
        ("/batch/workspaces", {"name": "new", "path": "/tmp", "environment": {"path": ["a"]}}),
        ("/batch/workspaces", {"name": "new", "path": "/tmp", "environment": {"path": ["/a:/b"]}}),
        ("/batch/workspaces", {"name": "new", "path": "/tmp", "environment": {"virtualenv": "a"}}),
        (
            "/batch/workspaces",
            {"name": "new", "path": "/tmp", "environment": {"variables": {"A-B": "c"}}},
        ),
        ("/batch/mcp-servers", {"name": "new"}),
        ("/batch/mcp-servers", {"name": "new", "command": ["a"], "url": "http://a/"}),
        ("/batch/mcp-servers", {"name": "new", "command": [""]}),
        ("/batch/mcp-servers", {"name": "new", "url": "ftp://a/"}),
        ("/batch/mcp-servers", {"name": "new", "command": ["a"], "folders": ["b"]}),
        ("/batch/mcp-servers", {"name": "new", "url": "http://a/", "headers": {"B C": "d"}}),
        ("/batch/mcp-servers", {"name": "new", "url": "http://a/", "headers": {"B": "c\nd"}}),
        ("/batch/mcp-servers", {"name": "new", "url": "http://a/", "secrets": {"B": "c"}}),
        ("/batch/mcp-servers", {"name": "new", "command": ["a"], "variables": {"B C": "d"}}),
    ],
    ids=str,
)
def test_a_schema_refuses_what_its_call_refuses(address, body, client_of, admin):
    content = document()["paths"][address]["post"]["requestBody"]["content"]
    assert not validator(content["application/json"]["schema"]).is_valid(body)
    response = client_of(admin).generic_json("POST", address, body)
    assert response.status_code == 400


@pytest.mark.parametrize(("form", "alone", "count"), [("jsonl", 0, 3), ("openai", 1, 2)])
def test_a_line_of_the_results_fits_its_schema(form, alone, count, work, client_of, operator):
    response = client_of(operator).get(f"/batch/{work['batch']}/results?format={form}")
    schema = answer_schema("GET", "/batch/{id}/results", response)
    lines = b"".join(response).splitlines()
    assert len(lines) == count
    for line in lines:
        validator(schema["anyOf"][alone]).validate(json.loads(line))


def test_the_headers_of_a_submission_are_told(client_of, operator, red):
    post = document()["paths"]["/batch/noop"]["post"]
    [key] = [each["name"] for each in post["parameters"] if each["in"] == "header"]
    client, body = client_of(operator), {"workspace": "red", "items": [{}]}
    for status, told in ((202, {"Location"}), (202, set(post["responses"]["202"]["headers"]))):
        response = client.post("/batch/noop", body, headers={key: "k-1"})
        assert response.status_code == status
        assert told <= set(response.headers)
    other = client.post("/batch/noop", body | {"name": "other"}, headers={key: "k-1"})
    assert other.status_code == 422
    validator(answer_schema("POST", "/batch/noop", other)).validate(other.json())


def test_it_is_served_as_json_and_as_yaml(client_of, viewer):
    client = client_of(viewer)
    as_json = client.get("/schema").json()
    answer = client.get("/schema?format=yaml")
    assert answer.headers["Content-Type"].startswith("application/vnd.oai.openapi;")
    assert yaml.safe_load(answer.content) == as_json
    assert as_json["openapi"].startswith("3.1")


def test_a_worker_starts_without_what_makes_it():
    """It would cost each of them a tenth of a second."""
    code = (
        "import sys, django; django.setup(); import batches.management.commands.worker;"
        "sys.exit(any(name.split('.')[0] == 'drf_spectacular' for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=settings.BASE_DIR, timeout=30)


def test_its_version_is_the_release():
    project = tomllib.loads((Path(settings.BASE_DIR) / "pyproject.toml").read_text())["project"]
    assert document()["info"]["version"] == project["version"]


def test_a_person_who_opens_the_page_is_asked_to_log_in(client, client_of, make_user):
    browser = {"Accept": "text/html,*/*;q=0.8"}
    answer = client.get("/docs?a=b", headers=browser)
    assert (answer.status_code, answer["Location"]) == (302, "/admin/login/?next=/docs%3Fa%3Db")
    assert client.get("/docs").status_code == 401
    assert client_of(make_user("nobody")).get("/docs", headers=browser).status_code == 403


def test_the_page_runs_under_the_content_security_policy(client_of, viewer):
    """Every script and style is a file of ours: nothing inline, nothing from elsewhere."""
    answer = client_of(viewer).get("/docs")
    page = answer.content.decode()
    assert "script-src 'self';" in answer.headers["Content-Security-Policy"] + ";"
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 2
    assert not any(text.strip() for _, text in scripts)
    assert not re.search(r"\son\w+=|<style|https?://", page)
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(addresses) == 4
    for address in addresses:
        assert finders.find(address.removeprefix(f"/{settings.STATIC_URL.lstrip('/')}")), address
    assert 'data-schema="/schema"' in page

"""Who may do what: every method of every address, asked by everybody."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.core.files.base import ContentFile
from django.db import transaction
from django.urls import get_resolver

from batches import registry
from batches.api.urls import urlpatterns
from batches.models import Artefact, Batch, McpServer, ModelProfile, Queue, Task, Workspace
from batches.states import AttemptOutcome
from config.settings import TASK_KINDS
from tests.batches.reviewed import with_patch

# Who may do what does not depend on the database.
pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]

# Call → status for: anonymous, without a group, viewer, operator, operator of another team, admin.
CALLS = {
    ("GET", "/health/live"): (200, 200, 200, 200, 200, 200),
    ("GET", "/health/ready"): (401, 403, 200, 200, 200, 200),
    ("GET", "/metrics"): (401, 403, 200, 200, 200, 200),
    ("GET", "/schema"): (401, 403, 200, 200, 200, 200),
    ("GET", "/docs"): (401, 403, 200, 200, 200, 200),
    ("POST", "/batch/agent-tasks"): (401, 403, 403, 202, 400, 202),
    ("POST", "/batch/validation"): (401, 403, 403, 202, 400, 202),
    ("POST", "/batch/tests"): (401, 403, 403, 202, 400, 202),
    ("POST", "/batch/mcp-operations"): (401, 403, 403, 202, 400, 202),
    ("GET", "/batch/tests"): (401, 403, 403, 405, 405, 405),
    ("GET", "/batch"): (401, 403, 200, 200, 200, 200),
    ("OPTIONS", "/batch"): (401, 403, 200, 200, 200, 200),
    ("PUT", "/batch"): (401, 403, 405, 405, 405, 405),
    ("GET", "/batch/{batch}"): (401, 403, 200, 200, 404, 200),
    ("PATCH", "/batch/{batch}"): (401, 403, 403, 200, 404, 200),
    ("DELETE", "/batch/{batch}"): (401, 403, 403, 202, 404, 202),
    ("POST", "/batch/{batch}/retry"): (401, 403, 403, 202, 404, 202),
    ("GET", "/batch/{batch}/tasks"): (401, 403, 200, 200, 404, 200),
    ("GET", "/batch/{batch}/results"): (401, 403, 200, 200, 404, 200),
    ("GET", "/batch/{batch}/comparison"): (401, 403, 200, 200, 404, 200),
    ("GET", "/batch/{batch}/comparison/items"): (401, 403, 200, 200, 404, 200),
    # Of a batch of no such kind.
    ("GET", "/batch/{batch}/sarif"): (401, 403, 409, 409, 404, 409),
    ("GET", "/batch/{batch}/junit"): (401, 403, 409, 409, 404, 409),
    ("GET", "/batch/tasks"): (401, 403, 200, 200, 200, 200),
    ("GET", "/batch/tasks/{task}"): (401, 403, 200, 200, 404, 200),
    ("PATCH", "/batch/tasks/{task}"): (401, 403, 403, 200, 404, 200),
    ("POST", "/batch/tasks/{failed}/retry"): (401, 403, 403, 202, 404, 202),
    ("POST", "/batch/tasks/{task}/cancel"): (401, 403, 403, 202, 404, 202),
    ("POST", "/batch/tasks/{patched}/apply"): (401, 403, 403, 202, 404, 202),
    ("POST", "/batch/tasks/{patched}/discard"): (401, 403, 403, 200, 404, 200),
    ("POST", "/batch/tasks/{patched}/keep"): (401, 403, 403, 202, 404, 202),
    ("GET", "/batch/tasks/{task}/log"): (401, 403, 200, 200, 404, 200),
    ("GET", "/batch/tasks/{task}/transcript"): (401, 403, 200, 200, 404, 200),
    ("GET", "/batch/tasks/{task}/artefacts/a.txt"): (401, 403, 200, 200, 404, 200),
    ("GET", "/batch/stats"): (401, 403, 200, 200, 200, 200),
    ("GET", "/batch/queues"): (401, 403, 200, 200, 200, 200),
    ("GET", "/batch/queues/tests"): (401, 403, 200, 200, 200, 200),
    ("PATCH", "/batch/queues/tests"): (401, 403, 403, 403, 403, 200),
    ("GET", "/batch/workspaces"): (401, 403, 200, 200, 200, 200),
    ("POST", "/batch/workspaces"): (401, 403, 403, 403, 403, 201),
    ("GET", "/batch/workspaces/red"): (401, 403, 200, 200, 404, 200),
    ("PATCH", "/batch/workspaces/red"): (401, 403, 403, 403, 403, 200),
    ("DELETE", "/batch/workspaces/empty"): (401, 403, 403, 403, 403, 204),
    ("GET", "/batch/mcp-servers"): (401, 403, 200, 200, 200, 200),
    ("POST", "/batch/mcp-servers"): (401, 403, 403, 403, 403, 201),
    ("GET", "/batch/mcp-servers/reds"): (401, 403, 200, 200, 404, 200),
    ("PATCH", "/batch/mcp-servers/reds"): (401, 403, 403, 403, 403, 200),
    ("DELETE", "/batch/mcp-servers/reds"): (401, 403, 403, 403, 403, 204),
    ("POST", "/batch/mcp-servers/reds/check"): (401, 403, 403, 403, 403, 200),
    ("GET", "/batch/models"): (401, 403, 200, 200, 200, 200),
    ("POST", "/batch/models"): (401, 403, 403, 403, 403, 201),
    ("GET", "/batch/models/{model}"): (401, 403, 200, 200, 200, 200),
    ("PATCH", "/batch/models/{model}"): (401, 403, 403, 403, 403, 200),
    ("DELETE", "/batch/models/{model}"): (401, 403, 403, 403, 403, 204),
    ("POST", "/batch/models/{model}/check"): (401, 403, 403, 403, 403, 200),
    ("POST", "/batch/celery/agent-tasks"): (401, 403, 403, 202, 400, 202),
    ("POST", "/batch/celery/validation"): (401, 403, 403, 202, 400, 202),
    ("POST", "/batch/celery/tests"): (401, 403, 403, 202, 400, 202),
    ("POST", "/batch/celery/mcp-operations"): (401, 403, 403, 202, 400, 202),
    ("GET", "/batch/celery/task/{told}"): (401, 403, 200, 200, 404, 200),
    ("GET", "/batch/celery/group/{group}"): (401, 403, 200, 200, 404, 200),
    ("GET", "/batch/nonsense"): (401, 404, 404, 404, 404, 404),
    ("POST", "/batch/nonsense"): (401, 404, 404, 404, 404, 404),
}
BODIES = {
    ("POST", "/batch/agent-tasks"): {"workspace": "red", "tasks": [{"description": "x"}]},
    ("POST", "/batch/validation"): {"workspace": "red", "targets": [{"path": "a.py"}]},
    ("POST", "/batch/tests"): {"workspace": "red", "modules": [{"path": "t.py"}]},
    ("POST", "/batch/mcp-operations"): {
        "workspace": "red",
        "operations": [{"server": "reds", "tool": "ask"}],
    },
    ("PATCH", "/batch/{batch}"): {"priority": 1},
    ("PATCH", "/batch/tasks/{task}"): {"priority": 1},
    ("PATCH", "/batch/queues/tests"): {"paused": True},
    ("PATCH", "/batch/workspaces/red"): {"environment": {}},
    ("POST", "/batch/mcp-servers"): {"name": "fresh", "command": ["server"]},
    ("PATCH", "/batch/mcp-servers/reds"): {"timeout": 5},
    ("POST", "/batch/models"): {"name": "fresh:1b"},
    ("PATCH", "/batch/models/{model}"): {"parallel": 5},
}
BODIES |= {
    (method, address.replace("/batch/", "/batch/celery/")): body
    for (method, address), body in BODIES.items()
    if address.removeprefix("/batch/") in {kind.endpoint for kind in registry.offered().values()}
}
NOT_SEEN = {
    "/batch/agent-tasks": {"workspace"},
    "/batch/validation": {"workspace"},
    "/batch/tests": {"workspace"},
    "/batch/mcp-operations": {"workspace", "operations[0].server"},
}
NOT_SEEN |= {
    address.replace("/batch/", "/batch/celery/"): NOT_SEEN[address] for address in NOT_SEEN
}
"""Address → what of its body another team does not know of: 400 is for that, and nothing else."""
PEOPLE = ("anonymous", "nobody", "viewer", "operator", "stranger", "admin")


@pytest.fixture
def places(make_user, make_batch, make_workspace, red, finish, settings, monkeypatch):
    """What the addresses stand for: work of somebody else in the workspace ``red``.

    There is a broker, as far as a submission knows; nobody is told of anything.
    """
    monkeypatch.setattr("batches.dispatch.nudge", lambda: False)
    make_workspace("empty", "red team")
    server = McpServer.objects.create(name="reds", transport="stdio", command=["/nonesuch"])
    server.groups.set(red.groups.all())
    owner = make_user("owner", "operator", "red team")
    batch = make_batch(owner, 3, workspace="red", max_attempts=1)
    [lease] = finish(AttemptOutcome.ERROR)
    patched = with_patch(make_batch(owner, 1, workspace="red").tasks.get())
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    group = make_batch(owner, 1, workspace="red", backend="celery")
    task = Task.objects.filter(batch=batch, state="queued").first()
    artefact = Artefact.objects.create(
        task=task, attempt=1, name="a.txt", media_type="text/plain", size=1,
        file=ContentFile(b"a", "a.txt"),
    )  # fmt: skip
    yield {
        "batch": batch.pk,
        "task": task.pk,
        "failed": lease.task_id,
        "patched": patched.pk,
        "group": group.pk,
        "told": group.tasks.get().pk,
        "model": ModelProfile.objects.create(name="small:1b", endpoint="http://127.0.0.1:9").pk,
    }
    artefact.file.delete()


@pytest.mark.parametrize("person", PEOPLE)
def test_each_call_is_open_to_whom_it_should_be(person, places, client_of, request, tmp_path):
    client = client_of(None if person == "anonymous" else request.getfixturevalue(person))
    for (method, address), expected in CALLS.items():
        body = BODIES.get((method, address))
        if (method, address) == ("POST", "/batch/workspaces"):
            fresh = tmp_path / "fresh"
            fresh.mkdir()
            body = {"name": "fresh", "path": str(fresh)}
        for asked in ("GET", "HEAD") if method == "GET" else (method,):
            with transaction.atomic():  # each call finds everything as it was
                response = client.generic_json(asked, address.format(**places), body)
                content = b"".join(response) if response.streaming else response.content
                transaction.set_rollback(True)
            told = (asked, address, response.status_code, content)
            assert response.status_code == expected[PEOPLE.index(person)], told
            if response.status_code == 401:
                assert response.headers["WWW-Authenticate"] == "Token", told
            if response.status_code == 400:
                assert {error["field"] for error in response.json()["errors"]} == NOT_SEEN[address]
            if response.status_code >= 400:
                assert response.headers["Content-Type"] == "application/problem+json", told


def served():
    """The name of each address with each method that its view has."""
    calls = set()
    for pattern in urlpatterns:
        view = pattern.callback
        methods = getattr(view, "actions", None) or {
            name for name in view.cls.http_method_names if hasattr(view.cls, name)
        }
        # Every view has OPTIONS; HEAD is asked wherever GET is.
        calls |= {(pattern.name, name.upper()) for name in set(methods) - {"options", "head"}}
    # The kinds of the test settings have the view of the shipped ones.
    test_kinds = {
        f"{prefix}submit-{name}"
        for name in registry.kinds().keys() - TASK_KINDS.keys()
        for prefix in ("", "celery-")
    }
    return {(name, method) for name, method in calls if name not in test_kinds}


def test_the_table_names_every_method_of_every_address():
    """One that is added later must say here who may call it; so must a new kind."""
    ids = dict.fromkeys(
        ("batch", "task", "failed", "patched", "group", "told", "model"), str(UUID(int=0))
    )
    asked = {
        (get_resolver().resolve(address.format(**ids)).url_name, method)
        for (method, address), expected in CALLS.items()
        if method != "OPTIONS" and expected[-1] not in {404, 405}
    }
    assert asked == served()


def test_a_list_holds_what_may_be_seen_and_no_more(client_of, places, request):
    seen = {}
    for person in ("viewer", "operator", "stranger", "admin"):
        client = client_of(request.getfixturevalue(person))
        seen[person] = (
            len(client.get("/batch").json()["results"]),
            len(client.get("/batch/tasks").json()["results"]),
            len(client.get("/batch/workspaces").json()["results"]),
            client.get("/batch/stats").json()["totals"]["state"]["failed"],
        )
    assert seen == {
        "viewer": (3, 5, 2, 1),
        "operator": (3, 5, 2, 1),
        "stranger": (0, 0, 0, 0),
        "admin": (3, 5, 2, 1),
    }


def test_an_owner_sees_a_batch_in_no_workspace(client_of, stranger, viewer, make_batch):
    batch = make_batch(stranger, 1)
    assert client_of(stranger).get(f"/batch/{batch.pk}").status_code == 200
    assert client_of(viewer).get(f"/batch/{batch.pk}").status_code == 404


def test_the_refused_changed_nothing(client_of, places, viewer, stranger, nobody):
    def rows():
        return [
            list(model.objects.order_by("pk").values())
            for model in (Batch, Task, Queue, Workspace, McpServer, ModelProfile)
        ]

    before = rows()
    for method, address in CALLS:
        if method in {"GET", "OPTIONS"}:
            continue
        body = BODIES.get((method, address), {})
        for user in (viewer, nobody, stranger, None):
            response = client_of(user).generic_json(method, address.format(**places), body)
            assert response.status_code in {400, 401, 403, 404, 405}, (method, address)
    assert rows() == before


@pytest.mark.parametrize(
    "header",
    [
        "Token", "Token a b", "Token wrong", "Token \udcff", "Token a\0b", "Token " + "x" * 10_000,
        "Token é", "Bearer x", "Basic eDp4", "", "\t",
    ],
)  # fmt: skip
def test_a_wrong_token_is_no_login(client_of, header):
    client = client_of(None)
    raw = header.encode("utf-8", "surrogateescape").decode("latin-1")
    response = client.get("/batch", HTTP_AUTHORIZATION=raw)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Token"


def test_a_session_is_a_login(client_of, operator):
    client = client_of(None)
    client.force_login(operator)
    assert client.get("/batch").status_code == 200


def test_an_account_that_was_closed_has_no_login(client_of, operator):
    client = client_of(operator)
    operator.is_active = False
    operator.save()
    assert client.get("/batch").status_code == 401

"""People of each group, clients that carry their tokens, and batches made through the one door."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from knox.models import AuthToken
from rest_framework.test import APIClient

from batches import operations
from batches.models import Batch, Workspace
from batches.queue.claim import Lease, claim
from batches.queue.closing import follow_up
from batches.queue.settle import settle
from batches.queue.verdicts import Verdict
from batches.queue.walk import Claimant
from batches.states import AttemptOutcome
from batches.submission import Item, Submission


@pytest.fixture
def make_user(db: None) -> Callable[..., User]:
    def make(name: str, *groups: str, **fields: Any) -> User:
        user = User.objects.create_user(name, password="a long password", **fields)
        user.groups.set(Group.objects.get_or_create(name=group)[0] for group in groups)
        return user

    return make


@pytest.fixture
def nobody(make_user: Callable[..., User]) -> User:
    """Has an account and no group."""
    return make_user("nobody")


@pytest.fixture
def viewer(make_user: Callable[..., User]) -> User:
    return make_user("viewer", "viewer", "red team")


@pytest.fixture
def operator(make_user: Callable[..., User]) -> User:
    return make_user("operator", "operator", "red team")


@pytest.fixture
def stranger(make_user: Callable[..., User]) -> User:
    """An operator of another team's workspace."""
    return make_user("stranger", "operator", "blue team")


@pytest.fixture
def admin(make_user: Callable[..., User]) -> User:
    return make_user("admin", "admin")


@pytest.fixture
def make_workspace(db: None, tmp_path: Any) -> Callable[..., Workspace]:
    def make(name: str, *groups: str, **fields: Any) -> Workspace:
        workspace = Workspace.objects.create(name=name, path=str(tmp_path), **fields)
        workspace.groups.set(Group.objects.get_or_create(name=group)[0] for group in groups)
        return workspace

    return make


@pytest.fixture
def red(make_workspace: Callable[..., Workspace]) -> Workspace:
    """The workspace of ``viewer`` and ``operator``."""
    return make_workspace("red", "red team")


class Client(APIClient):
    """Asks as a program would: an unhandled exception is a 500, not a traceback here."""

    def __init__(self) -> None:
        super().__init__(raise_request_exception=False)

    def generic_json(self, method: str, address: str, body: Any = None) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        return self.generic(method, address, data, content_type="application/json")


@pytest.fixture
def client_of() -> Callable[[User | None], Client]:
    """An API client with a token of the user; without one, of nobody at all."""

    def make(user: User | None) -> Client:
        client = Client()
        if user is not None:
            _, token = AuthToken.objects.create(user)
            client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
        return client

    return make


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """``tasks`` items of no work, or the given ones, submitted by the owner."""

    def make(
        owner: User, tasks: int = 3, *, items: list[Item] | None = None, **fields: Any
    ) -> Batch:
        chosen = items if items is not None else [Item(payload={"n": n}) for n in range(tasks)]
        return operations.submit(
            owner, Submission(kind=fields.pop("kind", "noop"), items=chosen, **fields)
        )

    return make


@pytest.fixture
def broker(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one, as far as a submission knows; nothing is published here."""
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr("batches.dispatch.nudge", lambda: False)


class Room:
    """Room for a number of tasks of any kind."""

    def __init__(self, number: int) -> None:
        self.number = number

    def left(self, kind: str) -> int:
        return self.number

    def take(self, kind: str, number: int) -> None:
        self.number -= number

    def full(self) -> bool:
        return self.number <= 0


@pytest.fixture
def start() -> Callable[[int], list[Lease]]:
    """Claims the first tasks in line."""

    def claim_some(number: int = 1) -> list[Lease]:
        spaces = frozenset(Workspace.objects.values_list("pk", flat=True))
        claimant = Claimant(worker="w1", backend="database", workspaces=spaces)
        leases = [claimed.lease for claimed in claim(claimant, Room(number))]
        assert len(leases) == number
        return leases

    return claim_some


@pytest.fixture
def finish(start: Callable[[int], list[Lease]]) -> Callable[..., list[Lease]]:
    """Runs the first tasks in line, each to the outcome given for it."""

    def run(*outcomes: AttemptOutcome, **fields: Any) -> list[Lease]:
        leases = start(len(outcomes))
        verdicts = [
            Verdict(lease, outcome, seconds=1.5, **fields)
            for lease, outcome in zip(leases, outcomes, strict=True)
        ]
        follow_up(settle(verdicts))
        return leases

    return run

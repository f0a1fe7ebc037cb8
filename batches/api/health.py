"""Does this process answer, which needs no login; and does work get done, which does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from http import HTTPStatus
from typing import ClassVar

from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Q
from django.db.models.functions import Now
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from batches.api.endpoint import Endpoint
from batches.api.problems import MEDIA_TYPE, Problem
from batches.models import Worker
from batches.queue.backlog import waiting
from batches.submission import FieldError


class Live(APIView):
    """Asks nothing of the database: a process is not restarted because that is away."""

    authentication_classes = []
    permission_classes = []
    renderer_classes = [JSONRenderer]

    def get(self, request: Request) -> Response:
        return Response({"status": "live"})


class Ready(Endpoint):
    """Answers 503 with reasons while the tables are not up to date, or work does not get done.

    A database that is away is a 503 too: the login already needs it.
    """

    permissions: ClassVar[dict[str, str]] = {"get": "view_queue"}
    pagination_class = None
    renderer_classes = [JSONRenderer]

    def get(self, request: Request) -> Response:
        # Without its migrations, what is read next may not be there.
        if reasons := list(unapplied()) or list(standstill()):
            problem = Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                " ".join(reason.message for reason in reasons),
                reasons,
            )
            return Response(
                problem.document(request.path), status=problem.status, content_type=MEDIA_TYPE
            )
        return Response({"status": "ready"})


def unapplied() -> Iterator[FieldError]:
    """One reason, if a migration of this version is missing in the database."""
    missing = known_migrations() - MigrationRecorder(connection).applied_migrations().keys()
    if missing:
        names = ", ".join(".".join(migration) for migration in sorted(missing)[:5])
        yield FieldError(
            "migrations", f"{len(missing)} migrations are not applied: {names}. Start again."
        )


@cache
def known_migrations() -> frozenset[tuple[str, str]]:
    """App and name of each migration in the code, which a process reads once."""
    return frozenset(MigrationLoader(None).graph.nodes)


def standstill() -> Iterator[FieldError]:
    """A reason for each queue with tasks that nobody claims, for too long.

    A worker whose slots are all taken by long tasks claims nothing, and work gets done all the
    same: one that runs something counts as one that claims.
    """
    patience = settings.READY_BACKLOG_SECONDS
    late = {queue: seconds for queue, seconds in waiting().items() if seconds > patience}
    if not late:
        return
    live = Worker.objects.live()
    at_work = Q(running__gt=0) | Q(claimed_at__gt=Now() - timedelta(seconds=patience))
    if live.filter(at_work).exists():
        return
    workers = "live workers claim nothing" if live.exists() else "no worker is live"
    for queue, seconds in sorted(late.items()):
        yield FieldError(
            f"queues.{queue}", f"Tasks have waited in {queue} for {seconds:.0f} s, and {workers}."
        )

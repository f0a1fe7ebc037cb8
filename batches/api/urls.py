"""The REST endpoints. A slash at the end is optional, and nothing is redirected."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, re_path
from rest_framework.routers import SimpleRouter

from batches import registry
from batches.api.batches import Batches, Submissions
from batches.api.docs import Docs, Document
from batches.api.endpoint import UUID_PATTERN
from batches.api.fleet import Queues, Workspaces
from batches.api.health import Live, Ready
from batches.api.metrics import Metrics
from batches.api.nothing import NothingHere
from batches.api.on_celery import CeleryGroup, CelerySubmissions, CeleryTask
from batches.api.profiles import Models
from batches.api.servers import McpServers
from batches.api.stats import Stats
from batches.api.tasks import Tasks

router = SimpleRouter()
router.trailing_slash = "/?"
router.register("batch/tasks", Tasks, "task")
router.register("batch/queues", Queues, "queue")
router.register("batch/workspaces", Workspaces, "workspace")
router.register("batch/mcp-servers", McpServers, "mcp-server")
router.register("batch/models", Models, "model")
router.register("batch", Batches, "batch")

urlpatterns: list[URLPattern | URLResolver] = [
    re_path(r"^health/live/?$", Live.as_view(), name="health-live"),
    re_path(r"^health/ready/?$", Ready.as_view(), name="health-ready"),
    re_path(r"^metrics/?$", Metrics.as_view(), name="metrics"),
    re_path(r"^schema/?$", Document.as_view(), name="schema"),
    re_path(r"^docs/?$", Docs.as_view(), name="docs"),
    re_path(r"^batch/stats/?$", Stats.as_view(), name="stats"),
    *(
        re_path(
            rf"^batch/{kind.endpoint}/?$",
            Submissions.as_view(kind_name=kind.name, name=f"Submit: {kind.name}"),
            name=f"submit-{kind.name}",
        )
        for kind in registry.offered().values()
    ),
    *(
        re_path(
            rf"^batch/celery/{kind.endpoint}/?$",
            CelerySubmissions.as_view(kind_name=kind.name, name=f"Submit to Celery: {kind.name}"),
            name=f"celery-submit-{kind.name}",
        )
        for kind in registry.offered().values()
    ),
    re_path(
        rf"^batch/celery/task/(?P<pk>{UUID_PATTERN})/?$", CeleryTask.as_view(), name="celery-task"
    ),
    re_path(
        rf"^batch/celery/group/(?P<pk>{UUID_PATTERN})/?$",
        CeleryGroup.as_view(),
        name="celery-group",
    ),
    *router.urls,
    re_path(r"^batch/", NothingHere.as_view(), name="nothing-here"),
]

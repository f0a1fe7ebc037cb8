"""The side bar: what its user may see, and nothing else."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.http import HttpRequest
from django.urls import reverse

GROUPS = (
    (
        "Work",
        (
            ("Batches", "stacks", "batches", "batch"),
            ("Tasks", "task", "batches", "task"),
        ),
    ),
    (
        "Fleet",
        (
            ("Queues", "queue", "batches", "queue"),
            ("Workers", "memory", "batches", "worker"),
            ("Workspaces", "folder_code", "batches", "workspace"),
            ("Models", "neurology", "batches", "modelprofile"),
            ("MCP servers", "hub", "batches", "mcpserver"),
            ("Away resources", "cloud_off", "batches", "resource"),
        ),
    ),
    (
        "Celery",
        (
            ("Results", "inventory", "django_celery_results", "taskresult"),
            ("Schedules", "schedule", "django_celery_beat", "periodictask"),
        ),
    ),
    (
        "Access",
        (
            ("Users", "person", "auth", "user"),
            ("Groups", "group", "auth", "group"),
            ("API tokens", "key", "knox", "authtoken"),
        ),
    ),
)


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Groups of links, as the skin's ``SIDEBAR`` setting wants them."""
    home = {"title": "Dashboard", "icon": "dashboard", "link": reverse("admin:index")}
    shown: list[dict[str, Any]] = [{"title": None, "items": [home]}]
    known = apps.app_configs  # Celery's are there only with a broker
    for title, links in GROUPS:
        items = [
            {"title": name, "icon": icon, "link": reverse(f"admin:{app}_{model}_changelist")}
            for name, icon, app, model in links
            if app in known and may_see(request, app, model)
        ]
        if items:
            shown.append({"title": title, "separator": True, "items": items})
    return shown


def may_see(request: HttpRequest, app: str, model: str) -> bool:
    """Everybody sees their own tokens."""
    return model == "authtoken" or request.user.has_perm(f"{app}.view_{model}")

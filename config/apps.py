"""Django's admin, imported by those who show it: a worker starts in two thirds of the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.contrib.admin import autodiscover
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class AdminOnDemand(SimpleAdminConfig):
    """Registers the pages when the addresses are imported (``config.urls``) or checked."""

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(check_pages, checks.Tags.admin)


def check_pages(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Sequence[checks.CheckMessage]:
    """Django's checks of all pages, which must be registered before they can be checked."""
    autodiscover()
    return check_admin_app(app_configs, **kwargs)

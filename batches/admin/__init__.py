"""The admin is the console: one module per family of pages. Importing them registers them."""

from importlib import import_module

from django.apps import apps

from batches.admin import accounts, batches, fleet, profiles, servers, tasks, workspaces

if apps.is_installed("django_celery_results"):
    import_module("batches.admin.celery")

__all__ = ["accounts", "batches", "fleet", "profiles", "servers", "tasks", "workspaces"]

"""The admin is the console: one module per family of pages. Importing them registers them."""

from batches.admin import accounts, batches, fleet, servers, tasks, workspaces

__all__ = ["accounts", "batches", "fleet", "servers", "tasks", "workspaces"]

"""MCP servers that operations are carried out on; the built-in one needs no row."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from batches.models.batch import new_id
from batches.models.fleet import NAME
from batches.querysets import GrantedQuerySet
from batches.states import Transport


class McpServer(models.Model):
    """How a server is reached, and what tasks may do with it.

    ``secrets`` holds references, such as ``env:GITHUB_TOKEN`` or ``file:/run/secrets/token``, which
    workers resolve when they run a task: what they refer to is never stored.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=64, unique=True, validators=[NAME])
    transport = models.CharField(max_length=5, choices=Transport)
    command = models.JSONField(default=list, blank=True)
    """Of a stdio server: its argument list, ``{workspace}`` standing for the task's folder."""
    url = models.CharField(max_length=2000, default="", blank=True)
    variables = models.JSONField(default=dict, blank=True)
    """Environment of a stdio server, by name."""
    headers = models.JSONField(default=dict, blank=True)
    """Of requests to an HTTP server, by name."""
    secrets = models.JSONField(default=dict, blank=True)
    """Name of a variable or header → where workers find its value."""
    folders = models.JSONField(default=list, blank=True)
    """Absolute folders that a stdio server may read besides the workspace."""
    network = models.BooleanField(default=False)
    """May a stdio server use the network?"""
    tools = models.JSONField(null=True, default=None, blank=True)
    """Names of the tools that tasks may call; null: all."""
    timeout = models.PositiveIntegerField(
        default=60, validators=[MinValueValidator(1), MaxValueValidator(3300)]
    )
    """Seconds for one call."""
    connect_timeout = models.PositiveIntegerField(
        default=20, validators=[MinValueValidator(1), MaxValueValidator(300)]
    )
    enabled = models.BooleanField(default=True)
    groups = models.ManyToManyField(Group, related_name="mcp_servers", blank=True)
    """Who may use it, besides admins."""
    created_at = models.DateTimeField(auto_now_add=True)

    objects = GrantedQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = "MCP server"
        constraints = [
            models.CheckConstraint(
                condition=Q(transport=Transport.STDIO, url="")
                | (Q(transport=Transport.HTTP, command=[]) & ~Q(url="")),
                name="mcpserver_command_or_url",
            )
        ]

    def __str__(self) -> str:
        return self.name

"""What the commands that change something share: who asks, of which row, and what is told."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.management.base import CommandError
from django.db.models import QuerySet

from batches.audit import Actor, Via
from batches.management.arguments import Beginning
from batches.management.base import ConsoleCommand
from batches.management.following import Glance, look
from batches.models import Batch, Task


class AskingCommand(ConsoleCommand):
    """A command that asks for something in somebody's name, and tells people or programs."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_user(parser)
        parser.add_argument("--json", action="store_true", help="one JSON object instead of words")

    def tell(self, options: dict[str, Any], sentence: str, facts: dict[str, Any]) -> None:
        """One sentence, or its facts for a program."""
        self.stdout.write(json.dumps(facts) if options["json"] else sentence)


def add_user(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--user", help="who asks, as the history will say (the first administrator)"
    )


def asker(username: str | None) -> Actor:
    """Whoever the command was told that asks; else the first superuser.

    Raises:
        CommandError: there is no such user: the history must name somebody.
    """
    users = get_user_model().objects.filter(is_active=True)
    if username is not None:
        user: User | None = users.filter(username=username).first()
        if user is None:
            raise CommandError(f"--user: there is no active user {username!r}.")
    else:
        user = users.filter(is_superuser=True).order_by("pk").first()
        if user is None:
            raise CommandError("There is no administrator: say who asks with --user NAME.")
    return Actor(user, Via.COMMAND)


def chosen(batches: QuerySet[Any], beginning: Beginning) -> Batch:
    """The one of ``batches`` whose id begins so.

    Raises:
        CommandError: there is none, or more than one.
    """
    found: list[Batch] = list(
        batches.filter(pk__range=(beginning.first, beginning.last)).order_by("pk")[:2]
    )
    if not found:
        raise CommandError(f"There is no batch {beginning}.")
    if len(found) > 1:
        raise CommandError(f"More than one batch begins with {beginning}: give more of its id.")
    return found[0]


def batch_of(by: Actor, beginning: Beginning) -> Batch:
    """The batch that whoever asks may see."""
    return chosen(Batch.objects.visible_to(by.user), beginning)


def task_of(by: Actor, task: UUID) -> Task:
    """The task that whoever asks may see."""
    visible = Task.objects.visible_to(by.user).filter(batch__sealed_at__isnull=False)
    row: Task | None = visible.filter(pk=task).first()
    if row is None:
        raise CommandError(f"There is no task {task}.")
    return row


def facts(batch: UUID, glance: Glance | None = None) -> dict[str, Any]:
    """A batch for a program: its id, name, status, and tasks by state."""
    now = glance or look(batch)
    return {
        "batch": str(batch),
        "name": now.name,
        "status": str(now.status),
        "total": now.total,
        "tasks": now.counts,
    }

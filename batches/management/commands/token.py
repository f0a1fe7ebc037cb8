"""Makes an API token."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError
from knox.settings import knox_settings

from batches import operations
from batches.management.arguments import whole_number
from batches.management.asking import add_user, asker
from batches.management.base import ConsoleCommand, typed


class Command(ConsoleCommand):
    help = "Make an API token for a user. It is the last word printed and is not shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument(
            "--days",
            type=whole_number(1, 3650),
            default=knox_settings.TOKEN_TTL.days,
            help="how long it is valid (%(default)s)",
        )
        add_user(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        users = get_user_model().objects.filter(is_active=True)
        user = users.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(
                f"There is no active user {options['username']!r}. The admin makes users, and so "
                f"does: {typed('createsuperuser')}"
            )
        made, token = operations.make_token(
            user, lifetime=timedelta(days=options["days"]), by=asker(options["user"])
        )
        self.stdout.write(f"Valid until {made.expiry:%Y-%m-%d}, shown once: {token}")

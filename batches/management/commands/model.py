"""Registers the language models that agents work with."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from batches import operations
from batches.management.arguments import whole_number
from batches.management.asking import add_user, asker
from batches.management.base import ConsoleCommand, typed
from batches.model_profiles import FIELDS
from batches.models import ModelProfile
from batches.states import ModelProtocol
from batches.supervision.model_checks import CheckedModel, check_models, usual_models

LIMITS = {
    "parallel": "tasks that use it at once, over all workers (no limit)",
    "max-requests": "requests of one task (60)",
    "max-tool-calls": "calls of tools by one task (300)",
    "max-tokens": "tokens of one task, in and out (400000)",
    "max-files": "files that one task may change (50)",
    "max-bytes": "bytes that one task may write (1048576)",
    "request-timeout": "seconds for one answer (300)",
}
MOST = 1_000_000_000


class Command(ConsoleCommand):
    help = (
        "Add, list, check or remove models. Tasks may name any model of the Ollama at "
        "OLLAMA_BASE_URL without that."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        self._add_adding(verbs.add_parser("add", help="say how a model is reached"))
        listing = verbs.add_parser("list", help="show all")
        listing.add_argument("--json", action="store_true")
        checking = verbs.add_parser("check", help="ask its server whether it is there")
        checking.add_argument(
            "names", nargs="*", metavar="NAME", help="with a profile or without; all of them"
        )
        checking.add_argument("--json", action="store_true")
        remove = verbs.add_parser("remove", help="forget how one is reached")
        remove.add_argument("name")
        add_user(remove)
        remove.add_argument("--json", action="store_true")

    def _add_adding(self, add: ArgumentParser) -> None:
        add.add_argument("name", help="what tasks call it, such as qwen2.5-coder:7b")
        add.add_argument(
            "--protocol", choices=ModelProtocol.values, help="how its server is spoken to (ollama)"
        )
        add.add_argument("--endpoint", help="address of its server (OLLAMA_BASE_URL)")
        add.add_argument("--model", help="its name there, where that is another one")
        add.add_argument(
            "--num-ctx", type=whole_number(256, 10_000_000), help="tokens that Ollama loads it with"
        )
        add.add_argument("--temperature", type=float, help="0 to 2")
        add.add_argument("--keep-alive", help="how long Ollama keeps it in memory, such as 10m")
        add.add_argument(
            "--secret", metavar="env:NAME|file:/PATH", help="where workers find the API key"
        )
        for limit, meaning in LIMITS.items():
            add.add_argument(f"--{limit}", type=whole_number(1, MOST), help=meaning)
        add_user(add)
        add.add_argument("--json", action="store_true")

    def handle(self, *_args: Any, **options: Any) -> None:
        match options["verb"]:
            case "add":
                self.add(options)
            case "list":
                self.show(as_json=options["json"])
            case "check":
                self.check_models(options["names"], as_json=options["json"])
            case "remove":
                self.remove(options)

    def add(self, options: dict[str, Any]) -> None:
        values = {name: options[name] for name in FIELDS if options.get(name) is not None}
        profile = operations.add_model(options["name"], **values, by=asker(options["user"]))
        if options["json"]:
            self.stdout.write(json.dumps(described(profile)))
        else:
            self.stdout.write(f"{profile.name} is reached at {reached_at(profile)}")
            self.stderr.write(f"Try it: {typed(f'model check {profile.name}')}")

    def show(self, *, as_json: bool) -> None:
        profiles = list(ModelProfile.objects.all())
        if as_json:
            self.stdout.write(json.dumps([described(profile) for profile in profiles], indent=2))
            return
        if not profiles:
            self.stderr.write(
                f"No profiles yet: models are those of the Ollama at {settings.OLLAMA_BASE_URL}. "
                f"Say otherwise: {typed('model add NAME --endpoint ADDRESS')}"
            )
        width = max((len(profile.name) for profile in profiles), default=0)
        for profile in profiles:
            off = "" if profile.enabled else "  (disabled)"
            self.stdout.write(f"{profile.name:{width}}  {reached_at(profile)}{off}")

    def check_models(self, names: list[str], *, as_json: bool) -> None:
        known = ModelProfile.objects.filter(enabled=True).values_list("name", flat=True)
        checked: list[tuple[str, CheckedModel]] = []
        for name, one in check_models(names or [*known, *usual_models()]):
            checked.append((name, one))
            if one.ok and not as_json:
                self.stdout.write(f"{name} {one.said}")
        if as_json:
            self.stdout.write(json.dumps([{"name": name} | asdict(one) for name, one in checked]))
        if failed := [f"{name} {one.said}" for name, one in checked if not one.ok]:
            raise CommandError("\n".join(failed))

    def remove(self, options: dict[str, Any]) -> None:
        profile = ModelProfile.objects.filter(name=options["name"]).first()
        if profile is None:
            known = ", ".join(ModelProfile.objects.values_list("name", flat=True)) or "none yet"
            raise CommandError(f"There is no model {options['name']!r} ({known}).")
        operations.remove_model(profile, by=asker(options["user"]))
        if options["json"]:
            self.stdout.write(json.dumps({"removed": profile.name}))
        else:
            self.stdout.write(f"How {profile.name} is reached is forgotten.")


def reached_at(profile: ModelProfile) -> str:
    model = f" as {profile.model}" if profile.model else ""
    return f"{profile.endpoint or settings.OLLAMA_BASE_URL}{model}"


def described(profile: ModelProfile) -> dict[str, Any]:
    """A model for a program."""
    return {"name": profile.name, **{field: getattr(profile, field) for field in FIELDS}}

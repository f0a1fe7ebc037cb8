"""``manage.py doctor``: what works here, what does not, and what to do."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from batches.management.base import ConsoleCommand
from batches.management.diagnosis import Finding, Mark, examine


class Command(ConsoleCommand):
    # It is asked when something is wrong: no check must keep it from answering.
    requires_system_checks = ()
    help = (
        "Look at the database, the broker, the data directory, the sandbox, workers, queues, "
        "workspaces, and at models and MCP servers, which have a minute and a half to answer. "
        "Exit code 1 when anything does not work."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print findings for a program")

    def handle(self, *_args: Any, **options: Any) -> None:
        findings = []
        for finding in examine():
            findings.append(finding)
            if not options["json"]:
                self.tell(finding)
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2))
        if any(finding.mark == Mark.FAILED for finding in findings):
            raise SystemExit(1)

    def tell(self, finding: Finding) -> None:
        style = {
            Mark.OK: self.style.SUCCESS,
            Mark.WARNING: self.style.WARNING,
            Mark.FAILED: self.style.ERROR,
        }[finding.mark]
        self.stdout.write(f"{style(f'{finding.mark:8}')} {finding.subject}: {finding.text}")
        if finding.remedy:
            self.stdout.write(f"{'':8} → {finding.remedy}")

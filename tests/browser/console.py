"""A console that runs, as tests in a browser ask it behind the page's back."""

from __future__ import annotations

import re
from typing import Any

from tests.processes.installation import Installation


class Console:
    """Asked as its first user, whose password and token the first start told."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self.url = f"http://127.0.0.1:{installation.port}"
        told = installation.said
        self.password = re.findall(r"^ +password +(\S+)$", told, re.MULTILINE)[0]
        self._token = re.findall(r"^ +API token +(\S+)$", told, re.MULTILINE)[0]

    def ask(self, method: str, path: str, **body: object) -> dict[str, Any]:
        return self._installation.ask(method, self._token, path, body or None)

    def submit(self, kind: str, **body: object) -> str:
        return self.ask("POST", f"/batch/{kind}", **body)["id"]

    def states(self, batch: str) -> list[str]:
        return sorted(self._installation.states(self._token, batch))

    def status(self, batch: str) -> str:
        return self.ask("GET", f"/batch/{batch}")["status"]

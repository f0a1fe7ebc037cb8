"""Servers and models that items need: they are rows, which a processor cannot see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from django.contrib.auth.models import User

from agents.contract import BUILT_IN_SERVER, JSON, MODEL_RESOURCE, SERVER_RESOURCE
from batches.models import McpServer, ModelProfile

if TYPE_CHECKING:
    from batches.vetting import Errors

Row: TypeAlias = tuple[JSON, list[str], bool]
"""Of an item: its validated payload, the resources it needs, and whether it is replay-safe."""


class Servers:
    """The MCP servers that a person may name; looked up once, when the first item names one."""

    def __init__(self, owner: User, workspace: str | None) -> None:
        self._owner = owner
        self._workspace = workspace

    @cached_property
    def _known(self) -> set[str]:
        visible = McpServer.objects.visible_to(self._owner).filter(enabled=True)
        return {BUILT_IN_SERVER, *visible.values_list("name", flat=True)}

    def check(self, needs: Iterable[str], at: str, errors: Errors) -> None:
        """Refuse an item that needs a server which its owner may not use, or without its folder."""
        for need in needs:
            name = need.removeprefix(SERVER_RESOURCE)
            if name == need:
                continue
            if name not in self._known:
                known = ", ".join(sorted(self._known))
                errors.add(
                    f"{at}.server", f"There is no server {name!r} that you may use ({known})."
                )
            elif name == BUILT_IN_SERVER and self._workspace is None:
                errors.add(
                    "workspace", f"The server {BUILT_IN_SERVER} works in a workspace: name one."
                )


class Models:
    """The models whose use is switched off; looked up once, when the first item names a model."""

    @cached_property
    def _disabled(self) -> set[str]:
        return set(ModelProfile.objects.filter(enabled=False).values_list("name", flat=True))

    def check(self, row: Row, place: Callable[[str], str], errors: Errors) -> None:
        """Refuse an item that needs one of them; ``place`` says where a field of it was given."""
        payload, needs, _ = row
        for name in models_of(needs):
            if (model := name.removeprefix(MODEL_RESOURCE)) in self._disabled:
                field = next(field for field, value in payload.items() if _names(value, model))
                errors.add(place(field), f"The model {model} is disabled.")


def _names(value: object, model: str) -> bool:
    return value == model or (isinstance(value, list) and model in value)


def models_of(needs: Iterable[str]) -> tuple[str, ...]:
    """Those of the resources that are models, in the order of their names."""
    return tuple(sorted(need for need in needs if need.startswith(MODEL_RESOURCE)))

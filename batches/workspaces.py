"""Registering the folders that tasks work in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from batches.models import Workspace
from batches.places import WrongPlace, adopt
from batches.submission import FieldError, InvalidSubmission

ENVIRONMENT_FIELDS = {"virtualenv", "path", "variables"}
VARIABLE = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]*\Z")
"""The name of a variable of the environment (POSIX.1-2017, 8.1)."""


def checked_path(path: str | Path) -> str:
    """An existing folder, absolute and with its links resolved.

    Raises:
        InvalidSubmission: it is not absolute or not a folder.
    """
    try:
        folder = Path(path).expanduser()
    except RuntimeError as error:  # ~somebody without a home
        raise InvalidSubmission([FieldError("path", f"Cannot be opened: {error}")]) from None
    if not folder.is_absolute():
        raise InvalidSubmission([FieldError("path", "Must be absolute.")])
    try:
        resolved = folder.resolve(strict=True)
    except (OSError, ValueError) as error:
        # Python adds the path to the text, once more.
        reason = getattr(error, "strerror", None) or error
        raise InvalidSubmission(
            [FieldError("path", f"Cannot be opened: {reason}: {path}")]
        ) from None
    if not resolved.is_dir():
        raise InvalidSubmission([FieldError("path", f"{resolved} is not a folder.")])
    if resolved == Path(resolved.anchor):
        raise InvalidSubmission([FieldError("path", "The root folder cannot be a workspace.")])
    return str(resolved)


def checked_environment(environment: Any) -> dict[str, Any]:
    """``{"virtualenv": path or "", "path": [folders], "variables": {name: value}}``, completed.

    Raises:
        InvalidSubmission: names the part that is wrong.
    """
    wrong = InvalidSubmission
    if environment is None:
        environment = {}
    if not isinstance(environment, dict):
        raise wrong([FieldError("environment", "Must be an object.")])
    if unknown := set(environment) - ENVIRONMENT_FIELDS:
        names = ", ".join(sorted(ENVIRONMENT_FIELDS))
        raise wrong([FieldError(f"environment.{min(unknown)}", f"Unknown: use {names}.")])
    virtualenv = environment.get("virtualenv") or ""
    folders = environment.get("path") or []
    variables = environment.get("variables") or {}
    if not isinstance(virtualenv, str) or (virtualenv and not Path(virtualenv).is_absolute()):
        raise wrong([FieldError("environment.virtualenv", "Must be an absolute path.")])
    if virtualenv and not _exists(Path(virtualenv) / "bin" / "python"):
        raise wrong(
            [FieldError("environment.virtualenv", f"There is no bin/python in {virtualenv}.")]
        )
    if not isinstance(folders, list) or not all(
        isinstance(folder, str) and Path(folder).is_absolute() and ":" not in folder
        for folder in folders
    ):
        raise wrong([FieldError("environment.path", "Must be a list of absolute paths.")])
    if not isinstance(variables, dict) or not all(
        isinstance(name, str) and VARIABLE.match(name) and isinstance(value, str)
        for name, value in variables.items()
    ):
        raise wrong([FieldError("environment.variables", "Must map names to texts.")])
    if any("\0" in value for value in variables.values()):
        raise wrong([FieldError("environment.variables", "A value holds a NUL character.")])
    return {"virtualenv": virtualenv, "path": folders, "variables": variables}


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:  # its name is longer than one can be, or a folder may not be looked into
        return False


def register(
    name: str,
    path: str | Path,
    environment: Any = None,
    groups: Iterable[Group] = (),
    added: Callable[[Workspace], object] = lambda _workspace: None,
) -> Workspace:
    """Register a folder under a name, and mark it; ``added`` is called in the transaction."""
    folder = checked_path(path)
    workspace = Workspace(name=name, path=folder, environment=checked_environment(environment))
    try:
        workspace.full_clean()
    except ValidationError as error:
        raise InvalidSubmission(
            [
                FieldError(field, " ".join(messages))
                for field, messages in error.message_dict.items()
            ]
        ) from None
    try:
        with transaction.atomic():
            adopt(workspace)
            workspace.save(force_insert=True)
            workspace.groups.set(groups)
            added(workspace)
    except WrongPlace as error:
        raise InvalidSubmission([FieldError("path", str(error))]) from None
    except IntegrityError:
        raise InvalidSubmission([FieldError("name", "Is taken.")]) from None
    return workspace

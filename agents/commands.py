"""Commands are argument lists that the console allows; no shell ever reads them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from agents.contract import PayloadError

PATH_PLACEHOLDER = "{path}"
MAX_COMMAND_LENGTH = 4000
LONGEST_TOLD = 100
"""Characters of a refused command: the reason is read after it."""


def parse_command(command: object, allowed: Sequence[str], field: str) -> list[str]:
    """The argument list of a command line that is on the allow-list.

    An entry of the allow-list is the beginning of a command line, word by word: ``pytest`` allows
    ``pytest -q tests``, ``make test`` allows ``make test`` but not ``make install``. The first
    word is a name looked up on the PATH of the workspace's environment: ``./pytest`` is another
    command. Quotes are read as a shell would; ``;``, ``|``, ``$`` and the like have no meaning
    and reach the command as they stand.

    Raises:
        PayloadError: names ``field`` and what is allowed.
    """
    if isinstance(command, str):
        if len(command) > MAX_COMMAND_LENGTH:
            raise PayloadError(field, f"must be at most {MAX_COMMAND_LENGTH} characters")
        try:
            argv = shlex.split(command)
        except ValueError as error:
            raise PayloadError(field, f"cannot be read as a command line: {error}") from None
    elif isinstance(command, (list, tuple)) and all(isinstance(word, str) for word in command):
        argv = list(command)
    else:
        raise PayloadError(field, "must be a command line, such as pytest -q")
    _refuse_unspeakable(argv, field)
    for entry in allowed:
        beginning = shlex.split(entry)
        if beginning and argv[: len(beginning)] == beginning:
            return argv
    told = shlex.join(argv)
    if len(told) > LONGEST_TOLD:
        told = told[:LONGEST_TOLD] + "…"
    raise PayloadError(field, f"{told} is not allowed; allowed: {', '.join(allowed)}")


def _refuse_unspeakable(argv: list[str], field: str) -> None:
    if not argv or not argv[0]:
        raise PayloadError(field, "must name a command, such as pytest -q")
    for word in argv:
        if "\0" in word:
            raise PayloadError(field, "must not contain NUL")
        try:
            word.encode()
        except UnicodeEncodeError:
            raise PayloadError(field, "must be valid Unicode text") from None


def for_path(argv: Sequence[str], path: str) -> list[str]:
    """The command for one path: in place of ``{path}`` where it is written, else at the end."""
    # A path such as -rf.py must not be taken for an option.
    safe = f"./{path}" if path.startswith("-") else path
    if any(PATH_PLACEHOLDER in word for word in argv):
        return [word.replace(PATH_PLACEHOLDER, safe) for word in argv]
    return [*argv, safe]

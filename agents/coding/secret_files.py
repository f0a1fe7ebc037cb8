"""Which files of a workspace hold secrets: an agent neither reads nor writes them.

Told by their names alone, so that it can be said beforehand, and looked up, what is kept back.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from agents.contract import JSON

SETTING = "secret_files"
"""The setting that adds patterns to ``ALWAYS``."""
ALWAYS = (
    ".env", ".env.*", "*.env", ".envrc",
    "!.env.example", "!.env.sample", "!.env.template", "!.env.dist", "!example.env",
    "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*",
    ".netrc", "_netrc", ".npmrc", ".pypirc", ".pgpass", ".my.cnf", ".htpasswd", ".dockercfg",
    ".git-credentials", ".vault-token", ".docker/config.json", ".kube/config",
    "credentials", "credentials.json", "credentials.toml", "credentials.ini", "credentials.y*ml",
    "secrets.json", "secrets.toml", "secrets.ini", "secrets.y*ml",
    "client_secret*.json", "service[-_]account*.json", "*.tfstate", "*.tfvars",
    ".ssh/", ".aws/", ".gnupg/",
    "!*.pub",
)  # fmt: skip


class SecretFiles:
    """Patterns with shell wildcards, whatever the case; the last one that matches decides.

    ``*.key`` is a file's name in any folder, ``.docker/config.json`` the end of a path, ``.ssh/``
    everything below a folder of that name, and ``!name`` takes an earlier pattern back.
    """

    def __init__(self, more: Sequence[str] = ()) -> None:
        self._patterns = [pattern.lower() for pattern in (*ALWAYS, *more)]

    @classmethod
    def from_settings(cls, settings: JSON) -> SecretFiles:
        """
        Raises:
            ValueError: the setting is no list of patterns.
        """
        more = settings.get(SETTING, [])
        if not isinstance(more, (list, tuple)) or not all(
            isinstance(pattern, str) and pattern.strip("!/ ") for pattern in more
        ):
            raise ValueError(f"{SETTING} must be a list of patterns, not {more!r}")
        return cls(more)

    def match(self, path: str) -> bool:
        """Does this path, relative and with ``/``, name a secret?"""
        spelled = path.lower()
        secret = False
        for pattern in self._patterns:
            bare = pattern.removeprefix("!")
            if _matches(spelled, bare):
                secret = bare == pattern
        return secret

    def below(self, folder: Path) -> Iterator[Path]:
        """Every secret file there is, absolute.

        Of a link with a secret's name it is the file that it leads to, where that is inside too.
        """
        real = folder.resolve()
        for path in _walk(real):
            if self.match(str(path.relative_to(real))):
                yield from _file_behind(path, real)


class KeptBack:
    """The secret files that a folder had in the beginning, wherever they are moved meanwhile.

    A command cannot touch a file that is hidden from it, but it can rename the folder above it,
    to a name that no pattern knows.
    """

    def __init__(self, folder: Path, secrets: SecretFiles) -> None:
        self._folder = folder.resolve()
        self._files = {_identity(path.lstat()) for path in secrets.below(folder)}

    def __contains__(self, found: os.stat_result) -> bool:
        return _identity(found) in self._files

    def paths(self) -> list[str]:
        """Where they are now: relative, with ``/``, sorted.

        Raises:
            PermissionError: a folder cannot be looked into.
        """
        if not self._files:
            return []
        now = (path for path in _walk(self._folder) if path.lstat() in self)
        return sorted(str(path.relative_to(self._folder)) for path in now)


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for parent, _folders, names in os.walk(folder, onerror=refuse):
        for name in names:
            yield Path(parent) / name


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _matches(path: str, pattern: str) -> bool:
    if pattern.endswith("/"):
        folders = PurePosixPath(path).parts[:-1]
        return any(fnmatchcase(part, pattern.rstrip("/")) for part in folders)
    if "/" in pattern:
        return fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}")
    return fnmatchcase(path.rpartition("/")[2], pattern)


def _file_behind(path: Path, real: Path) -> Iterator[Path]:
    try:
        leads_to = path.resolve(strict=True)
    except (FileNotFoundError, RuntimeError):
        return  # dangling, or a loop of links: nothing is there to be read
    if leads_to.is_relative_to(real) and stat.S_ISREG(leads_to.lstat().st_mode):
        yield leads_to

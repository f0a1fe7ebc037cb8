"""An agent's copy as its tools and its commands reach it: one door, one at a time.

Whatever a model asks for happens in here: without a network, with the secrets of the copy out of
sight, and never two things at once, so that what was looked at is what is then opened.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from agents.bubblewrap import Mounts, View
from agents.coding.refusals import Blocked
from agents.coding.secret_files import KeptBack, SecretFiles
from agents.command_run import Ground, guarding_the_disk, time_for_commands
from agents.contract import ProcessorContext
from agents.launch import Command
from agents.limits import KIB, MIB
from agents.process import Watch
from agents.sandbox import Finished, Sandbox
from agents.toolchain import Toolchain

SHOWN_BYTES = 64 * KIB
"""Of a command's output, from its beginning and as much again from its end."""
MOST_OUTPUT = 64 * MIB
"""A command that prints more is stopped."""


class Enclosure:
    """One agent's copy. Its files are at ``folder``; its commands see them at ``root``."""

    def __init__(
        self, ground: Ground, view: View, mounts: Mounts, context: ProcessorContext
    ) -> None:
        """
        Raises:
            ValueError: the setting ``secret_files`` is no list of patterns.
        """
        settings = ground.sandbox.settings
        self.settings = replace(
            settings,
            network=False,
            shown_output_bytes=min(settings.shown_output_bytes, SHOWN_BYTES),
            max_output_bytes=min(settings.max_output_bytes, MOST_OUTPUT),
        )
        self.context = context
        self.toolchain = ground.toolchain
        self.secrets = SecretFiles.from_settings(context.settings)
        self.kept_back = KeptBack(view.source, self.secrets)
        self.lock = threading.RLock()
        """Held while something is looked at, opened or run."""
        self._ground = ground
        self._view = view
        self._mounts = mounts
        self.sandbox = Sandbox(ground.sandbox.held, self.settings)

    @property
    def folder(self) -> Path:
        return self._view.source

    @property
    def root(self) -> Path:
        """Where commands see the copy, and where a model therefore takes it to be."""
        return self._view.root

    @property
    def seen_only(self) -> View:
        """The copy for a tool of the console, which reads it and needs none of its secrets."""
        return replace(self._view, writable=False)

    @property
    def user(self) -> tuple[int, int]:
        """User and group that commands run as, and that files which tools make belong to."""
        return self.sandbox.user_for(self.folder)

    def of(self, view: View, mounts: Mounts) -> Enclosure:
        """The same walls around another copy."""
        return Enclosure(self._ground, view, mounts, self.context)

    def refuse_secrets(self, paths: Iterable[str]) -> None:
        """For the paths that a change names: moving a secret would put its content into a patch.

        Raises:
            Blocked: one of them holds secrets.
        """
        if path := next(filter(self.secrets.match, paths), ""):
            raise Blocked(f"the change touches {path}, which holds secrets")

    def run(
        self,
        argv: Sequence[str],
        timeout: timedelta,
        *,
        toolchain: Toolchain | None = None,
        visible: Sequence[Path] = (),
        writable: Sequence[Path] = (),
        variables: dict[str, str] | None = None,
        output: Path | None = None,
        watch: Watch = lambda _output: None,
    ) -> Finished:
        """Run a command on the copy, in the workspace's environment unless told another.

        It ends with the attempt's time at the latest. ``output`` takes standard output alone, in
        full; without it both streams are one.

        Raises:
            Blocked: a folder of the copy was closed to the worker.
            CommandNotFound, DiskNearlyFull, SandboxBroken: see ``agents.command_run``.
        """
        shown = [*self._mounts.visible, *visible]
        with self.lock:
            command = Command(
                argv,
                self._view,
                toolchain or self.toolchain,
                output=output,
                merged=output is None,
                mounts=Mounts(shown, [*self._mounts.writable, *writable], self._hidden(shown)),
                variables=variables or {},
            )
            return self.sandbox.run(
                command,
                min(timeout, time_for_commands(self.context)),
                guarding_the_disk(self.context, self.settings, watch),
            )

    def _hidden(self, shown: Sequence[Path]) -> list[Path]:
        """Every secret of the copy that no other mount covers, as commands would see it."""
        try:
            secrets = [self.root / path for path in self.kept_back.paths()]
        except PermissionError as error:
            raise Blocked(
                f"no command is run while {error.filename} cannot be looked into"
            ) from error
        covering = [*shown, *self.toolchain.folders()]
        return [
            *self._mounts.hidden,
            *(
                secret
                for secret in secrets
                if secret not in self._mounts.hidden
                and not any(secret.is_relative_to(folder) for folder in covering)
            ),
        ]

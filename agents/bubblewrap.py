"""The bubblewrap command line: what a command sees, as whom, under which limits."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.limits import SandboxSettings
from agents.toolchain import HOME

SHARED_ETC = (
    "passwd", "group", "nsswitch.conf", "hosts", "localtime", "timezone", "services", "protocols",
    "mime.types", "ssl/certs", "ssl/openssl.cnf", "ca-certificates", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "alternatives",
)  # fmt: skip
NETWORK_ETC = ("resolv.conf", "host.conf", "gai.conf")


@dataclass(frozen=True, slots=True)
class View:
    """A workspace as a command sees it: always at ``root``, whatever folder that really is.

    A workspace keeps its own absolute path because the scripts of a virtualenv, editable installs
    and compiled caches name it, and because paths in a tool's output are then the user's own.
    """

    root: Path
    source: Path
    writable: bool


@dataclass(frozen=True, slots=True)
class Mounts:
    """Folders beside the workspace, each at its own path."""

    visible: Sequence[Path] = ()
    writable: Sequence[Path] = ()
    hidden: Sequence[Path] = ()
    """Files in whose place an empty one is seen. Each must be there, and not be a link."""


def options(
    view: View, mounts: Mounts, environ: dict[str, str], settings: SandboxSettings, empty: Path
) -> list[str]:
    """Everything between ``bwrap`` and the command, less the user namespace.

    ``empty`` is a file without content, shown in the place of each that is hidden.
    """
    return [
        "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
        *([] if settings.network else ["--unshare-net"]),
        "--die-with-parent", "--new-session",
        *_system(settings),
        *_folders(view, mounts),
        *(word for file in mounts.hidden for word in ("--ro-bind", str(empty), str(file))),
        "--chdir", str(view.root),
        "--clearenv",
        *(word for name, value in environ.items() for word in ("--setenv", name, value)),
    ]  # fmt: skip


def _system(settings: SandboxSettings) -> list[str]:
    line = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        folder = Path("/") / name
        if folder.is_symlink():
            line += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            line += ["--ro-bind", str(folder), str(folder)]
    for name in (*SHARED_ETC, *(NETWORK_ETC if settings.network else ())):
        line += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    size = str(settings.tmp_bytes)
    # World-writable, because the command's user is not always the one who mounts.
    return [
        *line,
        "--proc", "/proc", "--dev", "/dev",
        "--perms", "1777", "--size", size, "--tmpfs", "/dev/shm",  # noqa: S108
        "--perms", "1777", "--size", size, "--tmpfs", "/tmp",  # noqa: S108
        "--perms", "0755", "--dir", "/home",
        "--perms", "0777", "--size", size, "--tmpfs", HOME,
    ]  # fmt: skip


def _folders(view: View, mounts: Mounts) -> list[str]:
    """Outer folders first: a later mount covers what an earlier one shows at its path."""
    inner = [folder for folder in mounts.visible if folder.is_relative_to(view.root)]
    outer = [folder for folder in mounts.visible if folder not in inner]
    bind = "--bind" if view.writable else "--ro-bind"
    return [
        *_bind("--ro-bind", outer),
        *_parents(view.root), bind, str(view.source), str(view.root),
        *_bind("--ro-bind", inner),
        *_bind("--bind", mounts.writable),
    ]  # fmt: skip


def _bind(how: str, folders: Sequence[Path]) -> list[str]:
    return [
        word
        for folder in sorted(folders)
        for word in (*_parents(folder), how, str(folder), str(folder))
    ]


def _parents(folder: Path) -> list[str]:
    """bubblewrap makes missing parents of a mount with mode 0700, closed to another user."""
    above = [parent for parent in reversed(folder.parents) if parent != Path("/")]
    return [word for parent in above for word in ("--perms", "0755", "--dir", str(parent))]


def limited(command: Sequence[str], settings: SandboxSettings) -> list[str]:
    """The command under its limits.

    Set inside the sandbox: the kernel then counts processes per user namespace, so that those of
    other sandboxes and of the user's desktop do not count.
    """
    limits = {
        "as": _at_most(resource.RLIMIT_AS, settings.memory_bytes),
        "nproc": _at_most(resource.RLIMIT_NPROC, settings.max_processes),
        "nofile": _at_most(resource.RLIMIT_NOFILE, settings.max_open_files),
        "fsize": _at_most(resource.RLIMIT_FSIZE, settings.max_file_bytes),
        "core": 0,
    }
    options = [f"--{name}={value}" for name, value in limits.items()]
    return ["/usr/bin/prlimit", *options, "--", *command]


def _at_most(kind: int, value: int) -> int:
    """The worker's own hard limit may be lower, and cannot be raised."""
    hard = resource.getrlimit(kind)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)

"""An attempt's own git objects: it reads the repository's and writes none there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agents.bubblewrap import Mounts, View
from agents.coding.git import Git
from agents.coding.repository import Repository

MADE_BY_TOOLS = (
    "__pycache__/", "*.py[co]", ".pytest_cache/", ".ruff_cache/", ".mypy_cache/", ".hypothesis/",
    ".tox/", ".nox/", ".coverage", ".coverage.*", ".DS_Store", ".ollama-coder-workspace",
)  # fmt: skip
"""Never part of a change unless it is tracked (gitignore(5))."""
LINK, SUBMODULE = "120000", "160000"
SETTINGS = ("core.looseCompression=1", "core.fsync=none")
DIFF = ("diff", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color")
WRITE_TREE = ("write-tree",)


@dataclass(frozen=True, slots=True)
class Version:
    """A file in a tree."""

    mode: str
    """Six octal digits."""
    blob: str

    @property
    def is_file(self) -> bool:
        return self.mode not in (LINK, SUBMODULE)


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between two trees; None where it is not there."""

    path: str
    before: Version | None
    after: Version | None


class Store:
    """Trees, checkouts and differences. Indexes are named, and last as long as the attempt."""

    def __init__(self, git: Git, folder: Path, repository: Repository | None) -> None:
        """``folder`` belongs to whom commands run as. What an earlier Store made there is used."""
        self._folder = folder
        self._repository = folder / "repository"
        objects = repository.object_folders() if repository else []
        settings = repository.settings(git) if repository else {}
        self._hash = settings.pop("extensions.objectformat", "sha1")
        lines = [f"{name}={value}" for name, value in settings.items()]
        excludes = f"core.excludesFile={folder / 'excludes'}"
        self.git = replace(
            git,
            view=View(folder, folder, writable=True),
            mounts=Mounts(visible=objects),
            settings=(*SETTINGS, *lines, excludes),
        )
        if not (self._repository / "HEAD").is_file():
            self._make(objects, repository)

    def _make(self, objects: Sequence[Path], repository: Repository | None) -> None:
        (self._folder / "excludes").write_text(
            "\n".join((*MADE_BY_TOOLS, _info(repository, "exclude")))
        )
        self.git.run(
            *("init", "--quiet", "--bare", "--template=", f"--object-format={self._hash}"),
            str(self._repository),
        )
        info = self._repository / "objects" / "info"
        (info / "alternates").write_text("".join(f"{folder}\n" for folder in objects))
        attributes = self._repository / "info"
        attributes.mkdir(exist_ok=True)
        (attributes / "attributes").write_text(_info(repository, "attributes"))

    def run(
        self, *arguments: str, index: str = "", work_tree: Path | None = None, given: bytes = b""
    ) -> bytes:
        """git on these objects. Paths in its arguments are relative to the work tree.

        Raises:
            GitFailed: it did not end with 0.
        """
        return self.git.run(
            *arguments, given=given, variables=self.variables(index or "any", work_tree)
        )

    def run_all(
        self,
        *commands: Sequence[str],
        index: str = "",
        work_tree: Path | None = None,
        given: bytes = b"",
    ) -> list[bytes]:
        """As ``run``, several one after the other: the output of each.

        Raises:
            GitFailed: one did not end with 0; those after it were not run.
        """
        return self.git.one_after_the_other(
            *commands, given=given, variables=self.variables(index or "any", work_tree)
        )

    def variables(self, index: str, work_tree: Path | None = None) -> dict[str, str]:
        return {
            "GIT_DIR": str(self._repository),
            "GIT_INDEX_FILE": str(self._folder / f"{index}.index"),
            "GIT_WORK_TREE": str(work_tree or self._folder),
        }

    def tree_of(self, index: str) -> str:
        return _name(self.run(*WRITE_TREE, index=index))

    def read(self, tree: str, index: str) -> None:
        self.run("read-tree", tree, index=index)

    def base(self, commit: str, inside: str) -> str | None:
        """The tree of a commit, of ``inside`` only: a folder that is a workspace sees no other.

        With what the folders above say of ignored files and line ends. None where nothing inside
        it is tracked.
        """
        if not inside:
            return self.run("rev-parse", f"{commit}^{{tree}}").decode().strip()
        kind = self.run("ls-tree", "-z", commit, "--", inside).decode().split(" ", 2)
        if kind[1:2] != ["tree"]:
            return None
        above = [
            "",
            *(f"{'/'.join(inside.split('/')[:n])}/" for n in range(1, inside.count("/") + 1)),
        ]
        names = [f"{folder}{name}" for folder in above for name in (".gitignore", ".gitattributes")]
        listed = self.run("ls-tree", "-z", commit, "--", *names)
        written = self.run_all(
            ("read-tree", "--empty"),
            ("read-tree", f"--prefix={inside}/", f"{commit}:{inside}"),
            ("update-index", "-z", "--index-info"),
            WRITE_TREE,
            index="base",
            given=listed,
        )
        return _name(written[-1])

    def check_out(self, tree: str, index: str, folder: Path) -> None:
        """Write the tree's files to an empty folder."""
        self.run("read-tree", "--reset", "-u", tree, index=index, work_tree=folder)

    def update(self, before: str, after: str, index: str, folder: Path) -> None:
        """Make of a checkout of one tree one of another."""
        self.run("read-tree", "-m", "-u", before, after, index=index, work_tree=folder)

    def snapshot(self, index: str, folder: Path, *options: str) -> str:
        """The tree of the folder's files as they are now, ignored ones left out."""
        added = ("add", "--all", *options)
        return _name(self.run_all(added, WRITE_TREE, index=index, work_tree=folder)[-1])

    def files(self, tree: str) -> dict[str, Version]:
        """Every file, link and submodule of a tree by its path."""
        found = {}
        for line in self.run("ls-tree", "-r", "-z", tree).split(b"\0")[:-1]:
            facts, _, path = line.partition(b"\t")
            mode, _kind, blob = facts.decode().split(" ")
            found[os.fsdecode(path)] = Version(mode, blob)
        return found

    def changed(self, tree: str, versions: dict[str, Version | None], index: str) -> str:
        """The tree with other versions of some files, None for no file."""
        nothing = "0" * len(tree)
        lines = [
            f"{version.mode} {version.blob} 0\t{path}" if version else f"0 {nothing}\t{path}"
            for path, version in versions.items()
        ]
        given = os.fsencode("".join(f"{line}\0" for line in lines))
        updated = ("update-index", "-z", "--index-info")
        written = self.run_all(("read-tree", tree), updated, WRITE_TREE, index=index, given=given)
        return _name(written[-1])

    def patched(self, tree: str, text: str, inside: str, index: str) -> str:
        """The tree with a patch that was made on exactly this tree.

        Raises:
            GitFailed: it was not.
        """
        if not text.strip():
            return tree
        written = self.run_all(
            ("read-tree", tree), applying(inside), WRITE_TREE, index=index, given=text.encode()
        )
        return _name(written[-1])

    def apply(self, text: str, inside: str, index: str, *options: str) -> bytes:
        return self.run(*applying(inside, *options), index=index, given=text.encode())

    def sides(self, text: str, inside: str) -> tuple[str, str]:
        """The trees of the patch's files alone: as it begins from them, and with the patch.

        Raises:
            GitFailed: what a file begins from is not among the objects, or it is no patch.
        """
        patch = self._folder / "sides.patch"
        patch.write_text(text, encoding="utf-8")
        ancestor = f"--build-fake-ancestor={self._folder / 'before.index'}"
        _, before, _, after = self.run_all(
            applying(inside, ancestor, given=str(patch)),
            WRITE_TREE,
            applying(inside, given=str(patch)),
            WRITE_TREE,
            index="before",
        )
        return _name(before), _name(after)

    def paths(self, text: str, inside: str = "") -> list[str]:
        """The path of each file that a patch is about, in its order.

        Raises:
            GitFailed: it is no patch.
        """
        lines = self.apply(text, inside, "any", "--numstat", "-z").split(b"\0")[:-1]
        return [os.fsdecode(line.split(b"\t", 2)[2]) for line in lines if b"\t" in line]

    def blobs(self, *blobs: str) -> list[bytes]:
        return self.run_all(*(("cat-file", "blob", blob) for blob in blobs))

    def keep(self, content: bytes) -> str:
        """The blob of a content, made as it is."""
        return self.run("hash-object", "-w", "--stdin", given=content).decode().strip()

    def merged_file(self, ours: bytes, base: bytes, theirs: bytes) -> tuple[int, bytes]:
        """How many conflicts a three-way merge has, and its text with them marked."""
        sides = {"workspace": ours, "before": base, "patch": theirs}
        for name, content in sides.items():
            (self._folder / f"merge.{name}").write_bytes(content)
        labels = [word for name in sides for word in ("-L", name)]
        files = [str(self._folder / f"merge.{name}") for name in sides]
        return self.git.ended("merge-file", "-p", *labels, *files, fine=range(128))

    def changes(self, before: str, after: str) -> list[Change]:
        """What differs between two trees, by path."""
        words = self.run(*DIFF, "--raw", "--no-abbrev", "-z", before, after).split(b"\0")[:-1]
        found = []
        for facts, path in zip(words[::2], words[1::2], strict=True):
            old, new, old_blob, new_blob, _status = facts.decode()[1:].split(" ")
            found.append(
                Change(
                    os.fsdecode(path),
                    Version(old, old_blob) if old.strip("0") else None,
                    Version(new, new_blob) if new.strip("0") else None,
                )
            )
        return found

    @contextmanager
    def every_file_binary(self) -> Iterator[None]:
        """Differences are in git's binary form meanwhile, whatever the files hold."""
        attributes = self._repository / "info" / "attributes"
        usual = attributes.read_text()
        attributes.write_text("* -diff\n")
        try:
            yield
        finally:
            attributes.write_text(usual)


def applying(inside: str, *options: str, given: str = "-") -> tuple[str, ...]:
    """The command that applies a patch, from a file or as what is given, to an index."""
    folder = [f"--directory={inside}"] if inside else []
    return ("apply", "--cached", "--whitespace=nowarn", *options, *folder, given)


def _name(said: bytes) -> str:
    return said.decode().strip()


def _info(repository: Repository | None, name: str) -> str:
    """The repository's own ``info/exclude`` or ``info/attributes``."""
    file = repository.common_dir / "info" / name if repository else None
    if file is None or file.is_symlink() or not file.is_file():
        return ""
    return file.read_text(errors="replace")

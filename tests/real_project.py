"""A real open-source project to run on: Python-Markdown, by its exact version and hash.

418 files and 32 test modules without dependencies, of which it skips some tests. One name in it is
changed, so that some fail too: equal counts of a suite that is all green would say little.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

from agents.contract import Environment, Workspace

NAME = "markdown"
VERSION = "3.11.3"
SHA256 = "81eb91631dc97ad1efbc76019ef0f80fe90ca49ddf81546752d79989c3bfff3e"
SDIST = f"{NAME}-{VERSION}.tar.gz"
FETCH_SECONDS = 50
RUFF_SUFFIXES = {".py", ".pyi", ".ipynb"}

Finding = tuple[str, int, int]
"""Rule, line, column."""
DEFECT = ("markdown/extensions/admonition.py", "CLASSNAME = 'admonition'", "CLASSNAME = 'defect'")
"""File, and a text of it and what takes its place."""
CHANGES_WARNINGS = "tests/test_legacy.py"
SUMMARY_WORD = re.compile(r"(\d+) (passed|failed|skipped|xfailed|xpassed|error)s?\b")


@dataclass(frozen=True)
class RealProject:
    """The unpacked project. Paths are relative to ``root``, with ``/``, sorted."""

    root: Path
    files: list[str]
    test_modules: list[str]
    environment: Environment = field(
        # The plugins of whoever runs these tests are not the project's; without them a module
        # takes half a second less.
        default=Environment(variables={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    )

    @property
    def workspace(self) -> Workspace:
        return Workspace("markdown", self.root, self.environment)

    @property
    def lintable(self) -> list[str]:
        """The files that ruff's linter reads."""
        return [
            path
            for path in self.files
            if Path(path).suffix in RUFF_SUFFIXES or Path(path).name == "pyproject.toml"
        ]

    def ruff_by_hand(self) -> dict[str, list[Finding]]:
        """``ruff check`` once over every file that it reads: the findings of each, sorted."""
        ruff = Path(sys.prefix) / "bin" / "ruff"
        ended = subprocess.run(
            [ruff, "check", "--no-cache", "--output-format", "json", *self.lintable],
            cwd=self.root,
            capture_output=True,
            check=False,
        )
        assert ended.returncode in {0, 1}, ended.stderr
        findings: dict[str, list[Finding]] = {path: [] for path in self.lintable}
        for found in json.loads(ended.stdout):
            path = str(Path(found["filename"]).relative_to(self.root))
            place = found["location"]
            findings[path].append((found["code"], place["row"], place["column"]))
        return {path: sorted(found) for path, found in findings.items()}

    def pytest_by_hand(self, test_modules: list[str]) -> dict[str, Counter[str]]:
        """``pytest`` once over these modules, its own ``-v`` lines tallied for each.

        Counts by pytest's words: passed, failed, error, skipped, xfailed, xpassed.
        """
        # One module makes warnings errors for all that are imported after it, so it comes last:
        # a module shall count here what it counts when it is run alone.
        modules = sorted(test_modules, key=lambda path: path == CHANGES_WARNINGS)
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-rN",
             *modules],
            cwd=self.root,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **self.environment.variables},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        tallies: dict[str, Counter[str]] = {path: Counter() for path in test_modules}
        for line in ended.stdout.splitlines():
            if match := re.match(
                r"(\S+\.py)::.* (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b", line
            ):
                word = {"XFAIL": "xfailed", "XPASS": "xpassed"}.get(match[2], match[2].lower())
                tallies[match[1]][word] += 1
        summary = ended.stdout.strip().splitlines()[-1]
        said = Counter({word: int(number) for number, word in SUMMARY_WORD.findall(summary)})
        told: Counter[str] = sum(tallies.values(), Counter())
        assert told == said, f"this reading of pytest is wrong: {summary}"
        return tallies


def fetch(cache: Path) -> Path:
    """The sdist, downloaded once into ``cache`` and checked against its hash."""
    cache.mkdir(parents=True, exist_ok=True)
    sdist = cache / SDIST
    if not sdist.exists():
        wanted = cache / "wanted.txt"
        wanted.write_text(f"{NAME}=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
        subprocess.run(
            [*_pip(cache), "download", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--no-binary", NAME, "--require-hashes", "--dest", cache, "--requirement", wanted],
            check=True,
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
        )  # fmt: skip
    found = hashlib.sha256(sdist.read_bytes()).hexdigest()
    assert found == SHA256, f"{sdist} is not what was asked for; remove it"
    return sdist


def _pip(cache: Path) -> list[str]:
    if find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    # An environment made by uv has no pip.
    private = cache / "pip"
    if not private.exists():
        subprocess.run([sys.executable, "-m", "venv", private], check=True, capture_output=True)
    return [str(private / "bin" / "python"), "-m", "pip"]


def unpack(sdist: Path, folder: Path) -> RealProject:
    """Unpack the project below ``folder``, readable to any user."""
    with tarfile.open(sdist) as archive:
        # Python before 3.11.4 has no filters; the archive is known by its hash.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
        archive.extractall(folder)
    root = (folder / f"{NAME}-{VERSION}").resolve()
    path, before, after = DEFECT
    source = (root / path).read_text(encoding="utf-8")
    assert source.count(before) == 1
    (root / path).write_text(source.replace(before, after), encoding="utf-8")
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    modules = [path for path in files if re.match(r"tests/(.*/)?test_[^/]*\.py$", path)]
    return RealProject(root, files, modules)


@pytest.fixture(scope="session")
def real_project(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> RealProject:
    """The project, unpacked anew for this session from a cached download.

    The cache is the folder ``OC_TEST_CACHE`` names, else pytest's own. Where it cannot be
    downloaded, tests are skipped; in CI that is a failure.
    """
    named = os.environ.get("OC_TEST_CACHE")
    if named:
        cache = Path(named)
    elif request.config.pluginmanager.hasplugin("cacheprovider"):
        cache = request.config.cache.mkdir("real-project")
    else:
        cache = tmp_path_factory.mktemp("real-project")
    try:
        sdist = fetch(cache)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = f"{NAME} {VERSION} could not be downloaded: {error} {error.stderr!r}"
        if os.environ.get("CI"):
            pytest.fail(said)
        pytest.skip(said)
    return unpack(sdist, tmp_path_factory.mktemp("workspaces"))

"""Which files decide what a check checks: tests, and what steers the tools that run them.

A patch that changes one of these is judged without that change: an agent that is to make a check
pass must not do so by rewriting it.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

FOLDERS = {
    "tests", "test", "__tests__", "spec", "specs", "testdata",
    # Found on the path before the real ones by a tool that is started in this folder.
    "pytest", "_pytest", "pluggy", "unittest",
}  # fmt: skip
FOLDER_NAMES = ("*.dist-info", "*.egg-info")
"""Their entry points are loaded by pytest."""
TESTS = (
    "test_*.py", "*_test.py", "tests.py", "conftest.py",
    "*.test.[jt]s", "*.test.[jt]sx", "*.test.[cm]js", "*.spec.[jt]s", "*.spec.[jt]sx",
    "*.spec.[cm]js", "*_test.go",
)  # fmt: skip
SETTINGS = (
    "pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "tox.ini", "tox.toml", "setup.cfg",
    "pyproject.toml", "noxfile.py", ".coveragerc", "makefile", "gnumakefile", "*.mk",
    "ruff.toml", ".ruff.toml", "mypy.ini", ".mypy.ini", "ty.toml", "pyrightconfig.json",
    "package.json", "jest.config.*", "vitest.config.*", "karma.conf.js", ".mocharc*",
    "cargo.toml", ".cargo",
    "pytest.py", "pluggy.py", "unittest.py", "sitecustomize.py", "usercustomize.py", "*.pth",
)  # fmt: skip


def decides_the_check(path: str) -> bool:
    """``path`` is relative, with ``/``; its case does not matter."""
    *folders, name = PurePosixPath(path.lower()).parts
    return any(
        folder in FOLDERS or any(fnmatchcase(folder, pattern) for pattern in FOLDER_NAMES)
        for folder in folders
    ) or any(fnmatchcase(name, pattern) for pattern in (*TESTS, *SETTINGS))


def is_pytest_module(path: str) -> bool:
    """Does pytest take tests from a file of this name by itself?"""
    name = PurePosixPath(path).name
    return fnmatchcase(name, "test_*.py") or fnmatchcase(name, "*_test.py")

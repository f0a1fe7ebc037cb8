"""Kills a writing process at each of its steps in turn: ``python -m tests.journal_kills FOLDER``.

Prints how many steps there were, and fails at the first workspace that is not whole afterwards.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from agents.coding import journal
from agents.coding.journal import Journal, Write
from agents.coding.placing import sha256

OLD = {"a.txt": b"old a", "gone/b.txt": b"old b"}
NEW = {"a.txt": b"new a", "made/deep/c.txt": b"new c"}
STEPS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "shutil.rmtree")


def lay_out(root: Path) -> None:
    root.mkdir()
    (root / ".git").mkdir()
    (root / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    for path, content in OLD.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(content)


def write(root: Path, kill_at: int | None) -> int:
    """The number of steps, unless it was killed before."""
    steps = 0

    def step(event: str, _arguments: object) -> None:
        nonlocal steps
        if event in STEPS:
            steps += 1
            if steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(step)
    writes = [
        Write(
            path,
            sha256(OLD[path]) if path in OLD else None,
            sha256(NEW[path]) if path in NEW else None,
            0o640,
        )
        for path in sorted({*OLD, *NEW})
    ]
    with Journal.of(root) as written:
        assert written.write(writes, NEW) == []
    return steps


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


def killed_at(root: Path, step: int) -> bool:
    """Was it killed, or had it ended before this step?"""
    lay_out(root)
    child = os.fork()
    if child == 0:
        write(root, step)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    for path, content in files(root).items():
        whole = (OLD.get(path), NEW.get(path), None)
        assert content in whole or path.endswith("-unfinished"), (step, path, content)
    journal.recover(root)
    assert files(root) in (OLD, NEW), (step, files(root))
    journal.recover(root)
    assert list((root / ".git").glob("ollama-coder/left-*")) == [], step
    if os.WIFSIGNALED(status):
        with Journal.of(root) as written:
            now = files(root)
            again = [Write("a.txt", sha256(now["a.txt"]), sha256(b"next"), 0o600)]
            assert written.write(again, {"a.txt": b"next"}) == []
        assert files(root)["a.txt"] == b"next", step
    return os.WIFSIGNALED(status)


def main(folder: Path) -> None:
    step = 1
    while killed_at(folder / str(step), step):
        step += 1
    print(step - 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""What holds in both sandboxes: limits, time, output, and that nothing is left running."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.capture import Capture
from agents.launch import CommandNotFound
from tests.agents.conftest import Bench

MIB = 1024 * 1024


@pytest.fixture
def marker() -> str:
    """A word by which a process is found among all of the machine."""
    return f"marker-{uuid.uuid4()}"


def running(marker: str) -> list[str]:
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = cmdline.read_text(errors="replace")
        except OSError:
            continue
        # Of the command itself, not of whoever was asked to start it.
        if line.startswith("sh\0") and marker in line:
            found.append(cmdline.parent.name)
    return found


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.01)


def loop(marker: str) -> str:
    return f"sh -c 'while :; do sleep 0.1; done' {marker}"


def orphan(marker: str) -> str:
    """A shell's way to fork twice into a session of its own."""
    return f"(setsid {loop(marker)} &)"


def test_a_command_answers_with_its_exit_code(either_bench: Bench) -> None:
    assert either_bench.run("sh", "-c", "exit 7").exit_code == 7
    assert either_bench.run("sh", "-c", "kill -SEGV $$").exit_code == 128 + signal.SIGSEGV


def test_a_program_that_is_not_there_is_named(either_bench: Bench) -> None:
    with pytest.raises(CommandNotFound, match="no-such-program is not installed in the console"):
        either_bench.run("no-such-program")


def test_a_memory_hog_is_stopped(either_bench: Bench) -> None:
    finished = either_bench.run("tail", "/dev/zero", memory_bytes=200 * MIB)
    assert finished.exit_code == 1
    assert "memory exhausted" in finished.output.text


def test_a_file_cannot_grow_past_its_limit(either_bench: Bench) -> None:
    finished = either_bench.run(
        "sh", "-c", "head -c 3000000 /dev/zero > $TMPDIR/big; ls -l $TMPDIR/big",
        max_file_bytes=MIB,
    )  # fmt: skip
    assert f" {MIB} " in finished.output.text


def test_processes_are_limited(either_bench: Bench) -> None:
    code = "i=0; while [ $i -lt 100 ]; do sleep 30 & i=$((i+1)); done; echo all of them"
    finished = either_bench.run("sh", "-c", code, max_processes=30)
    assert "all of them" not in finished.output.text
    assert "fork" in finished.output.text


def test_an_orphan_ends_with_its_command(either_bench: Bench, marker: str) -> None:
    started: list[str] = []
    finished = either_bench.run(
        "sh", "-c", f"{orphan(marker)}; sleep 0.6", watch=lambda _: started.extend(running(marker))
    )
    assert finished.exit_code == 0
    assert started
    assert running(marker) == []


def test_time_ends_the_whole_tree_and_keeps_the_output(either_bench: Bench, marker: str) -> None:
    started: list[str] = []
    finished = either_bench.run(
        "sh", "-c", f"echo begun; {orphan(marker)}; {loop(marker)}",
        seconds=0.8,
        watch=lambda _: started.extend(running(marker)),
    )  # fmt: skip
    assert finished.timed_out
    assert finished.output.text == "begun\n"
    assert len(set(started)) == 2
    assert running(marker) == []


def test_nobody_is_left_to_write_once_it_has_ended(either_bench: Bench, marker: str) -> None:
    """Not even those that gave their output back, of whom nothing is heard at the end."""
    busy = "exec <&- >&- 2>&-; while :; do echo x >> beat-$$; done"
    one = f"(setsid sh -c '{busy}' {marker} &)"
    for _ in range(4):
        finished = either_bench.run("sh", "-c", f"{one};" * 20 + "sleep 0.3", writable=True)
        assert running(marker) == []
        assert finished.exit_code == 0
        beats = list(either_bench.root.glob("beat-*"))
        assert len(beats) == 20
        for beat in beats:
            beat.unlink()


def test_a_watcher_that_fails_leaves_nothing_running(either_bench: Bench, marker: str) -> None:
    def fail(_output: Capture) -> None:
        wait_until(lambda: len(running(marker)) == 2)
        raise RuntimeError("the watcher failed")

    with pytest.raises(RuntimeError, match="the watcher failed"):
        either_bench.run("sh", "-c", f"{orphan(marker)}; {loop(marker)}", watch=fail)
    assert running(marker) == []


def in_a_process_of_its_own(bench: Bench, before: str, *argv: str) -> subprocess.Popen[str]:
    """Start a program that runs one command on the bench, as a slot does."""
    script = bench.root / "caller.py"
    script.write_text(f"""
import resource
from pathlib import Path
from agents.sandbox import Held
from tests.agents.conftest import Bench
bench = Bench(Held({bench.held.kind!r}), Path({str(bench.root)!r}))
{before}
print(bench.run(*{argv!r}).output.text)
""")
    here = Path(__file__).parent.parent.parent
    return subprocess.Popen(
        [sys.executable, script], env={"PYTHONPATH": str(here)}, stdout=subprocess.PIPE, text=True
    )


def test_a_lower_limit_of_the_worker_s_own_is_kept(either_bench: Bench) -> None:
    lower = "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))"
    with in_a_process_of_its_own(either_bench, lower, "sh", "-c", "ulimit -n") as caller:
        assert caller.communicate()[0].strip() == "200"


def test_nothing_survives_the_death_of_the_caller(either_bench: Bench, marker: str) -> None:
    both = f"{orphan(marker)}; {loop(marker)}"
    with in_a_process_of_its_own(either_bench, "", "sh", "-c", both) as caller:
        try:
            wait_until(lambda: len(running(marker)) == 2)
        finally:
            caller.kill()
    wait_until(lambda: running(marker) == [])


def test_a_command_that_closes_its_output_is_still_waited_for(either_bench: Bench) -> None:
    finished = either_bench.run("sh", "-c", "exec >&- 2>&-; sleep 0.5; exit 3")
    assert finished.exit_code == 3


def test_long_output_is_shown_in_part_and_kept_in_full(either_bench: Bench, tmp_path: Path) -> None:
    kept = tmp_path / "output.txt"
    finished = either_bench.run("seq", "100000", output=kept)
    everything = "".join(f"{number}\n" for number in range(1, 100001))
    assert kept.read_text() == everything
    assert finished.output.truncated
    assert finished.output.size == len(everything)
    assert finished.output.head == everything[: 64 * 1024]
    assert finished.output.tail == everything[-64 * 1024 :]


def test_endless_output_is_stopped_at_its_limit(either_bench: Bench, tmp_path: Path) -> None:
    kept = tmp_path / "output.txt"
    finished = either_bench.run("yes", output=kept, max_output_bytes=MIB)
    assert finished.overflowed
    assert not finished.timed_out
    assert kept.stat().st_size == MIB

"""Output in chunks: shown at both ends, whole on disk, never more than its cap."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.capture import Capture

CHUNKS = st.lists(st.binary(max_size=12).map(lambda data: bytes(97 + byte % 26 for byte in data)))


@given(CHUNKS, st.integers(1, 8), st.integers(1, 40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_head_and_tail_are_those_of_everything(
    tmp_path: Path, chunks: list[bytes], shown: int, limit: int
) -> None:
    everything = b"".join(chunks)
    kept = tmp_path / "kept"
    with Capture(shown, limit, kept) as capture:
        for chunk in chunks:
            capture.write(chunk)
        output = capture.output()
    assert output.size == len(everything)
    assert output.head.encode() == everything[:shown]
    assert output.tail.encode() == everything[shown:][-shown:]
    assert output.truncated == (len(everything) > 2 * shown)
    assert capture.overflowed == (len(everything) > limit)
    assert kept.read_bytes() == everything[:limit]
    if not output.truncated:
        assert output.text.encode() == everything


def test_bytes_that_are_no_text_are_replaced() -> None:
    with Capture(100, 100) as capture:
        capture.write(b"caf\xe9 \xf0\x9f")
        assert capture.output().text == "caf� �"


def test_the_latest_line_is_a_complete_one() -> None:
    with Capture(10, 1000) as capture:
        assert capture.latest_line() == ""
        capture.write(b"one\ntwo\nthr")
        assert capture.latest_line() == "two"
        capture.write(b"ee\n")
        assert capture.latest_line() == "three"

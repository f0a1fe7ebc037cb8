"""Sends made-up requests to a served console: ``python -m tests.fuzzing``.

Schemathesis makes them from the OpenAPI document, valid ones and others, and checks each answer
against it. Fails when an answer is a 5xx, is not documented or does not fit.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzzing.campaign import Tally, run
from tests.fuzzing.console import served

EXAMPLES = 20
"""Made up for each call, besides those that its schema gives: some 3,400 cases in a minute."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--cases", type=int, default=2000, help="at least (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="the one that an earlier run told")
    wanted = parser.parse_args()
    first = seed = random.getrandbits(32) if wanted.seed is None else wanted.seed
    tally = Tally()
    with (
        tempfile.TemporaryDirectory(prefix="oc-fuzzing-") as folder,
        served(Path(folder), "--demo") as (address, token),
    ):
        start = time.monotonic()
        while tally.cases < wanted.cases:
            run(tally, address, token, examples=EXAMPLES, seed=seed)
            seed += 1
        seconds = time.monotonic() - start
    for (call, title), words in sorted(tally.failures.items(), key=str):
        print(f"== {call}: {title}\n{words}\n")
    print(f"{tally.cases:,} cases of {len(tally.calls)} calls, {seconds:.0f} s, seed {first}")
    classes = Counter(f"{status // 100}xx" for status in tally.answers.elements())
    print(*(f"{name}: {number:,}" for name, number in sorted(classes.items())), sep=", ")
    if tally.unanswered:
        print(f"without an answer: {tally.unanswered:,}")
    if never := sorted(tally.calls - tally.succeeded):
        print("never with success:", *never, sep="\n  ")
    print(f"failures: {len(tally.failures)}")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())

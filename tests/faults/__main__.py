"""Plants each fault in a copy of the tree and shows which tests fall: ``python -m tests.faults``.

Fails when a fault survives one of the tests it names, or when its patch no longer applies.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.faults.planted import Fault, apply, copy_tree, fall, faults

POSTGRES = "postgres://postgres@127.0.0.1:5432/postgres"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these faults (file names without .patch)")
    parser.add_argument(
        "--database",
        default=os.environ.get("TEST_POSTGRES_URL", POSTGRES),
        help="a PostgreSQL server where databases can be made (default: %(default)s)",
    )
    wanted = parser.parse_args()
    chosen = [fault for fault in faults() if not wanted.names or fault.name in wanted.names]
    if unknown := set(wanted.names) - {fault.name for fault in chosen}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    database = f"{wanted.database.rpartition('/')[0]}/oc_faults_{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="oc-faults-") as scratch:
        tree = Path(scratch) / "sound"
        copy_tree(tree)
        if not stands_without_faults(tree, chosen, database):
            return 1
        verdicts = [judge(fault, Path(scratch) / fault.name, database) for fault in chosen]
    print(f"\n{sum(verdicts)} of {len(chosen)} faults were found")
    return 0 if all(verdicts) else 1


def stands_without_faults(tree: Path, chosen: Iterable[Fault], database: str) -> bool:
    """A test that falls anyway would prove nothing."""
    for postgres in (False, True):
        tests = {test for f in chosen if f.needs_postgres == postgres for test in f.falls}
        if tests and (fallen := fall(tree, sorted(tests), database if postgres else "")):
            print("These fall without any fault:", *sorted(fallen), sep="\n  ")
            return False
    return True


def judge(fault: Fault, tree: Path, database: str) -> bool:
    """Plant a fault; True when every test that it names falls."""
    start = time.monotonic()
    copy_tree(tree)
    print(f"\n{fault.name}: {fault.sentence}")
    if refused := apply(fault, tree):
        print(f"  the patch no longer applies:\n{refused}")
        return False
    fallen = fall(tree, fault.falls, database if fault.needs_postgres else "")
    for test in fault.falls:
        print(f"  {'fell' if test in fallen else 'SURVIVED'}  {test}")
    print(f"  {time.monotonic() - start:.1f} s", flush=True)
    return set(fault.falls) <= fallen


if __name__ == "__main__":
    sys.exit(main())

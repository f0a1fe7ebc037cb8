"""What a patch does to the check, shown on clean checkouts: before it, with it, case by case.

The tests that count are those of the base commit. What the patch itself changes of them is left
out for that run, and run apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from agents.coding.check_files import decides_the_check, is_pytest_module
from agents.coding.checking import Check, run_check
from agents.coding.enclosure import Enclosure
from agents.coding.lint import Change, Findings
from agents.coding.own_copy import Checkout, OwnCopy
from agents.coding.patch import Patch
from agents.contract import JSON
from agents.pytest_reporting import is_pytest
from agents.tally import Case

MOST_SHOWN = 200
"""Test ids of a list in a result."""


@dataclass(frozen=True, slots=True)
class Cases:
    """The tests of the base commit, by what the patch does to them. Ids, in the order they ran."""

    fixed: list[str] = field(default_factory=list)
    """Red before, and not now."""
    broken: list[str] = field(default_factory=list)
    """Passed before; now red, skipped or not there."""
    still_red: list[str] = field(default_factory=list)
    unchanged: int = 0
    """Not red before, and the same now."""

    @classmethod
    def between(cls, before: dict[str, Case], after: dict[str, Case]) -> Cases:
        made = cls([], [], [])
        unchanged = 0
        for name, was in before.items():
            now = _outcome_of(name, after)
            if was.is_red:
                (made.still_red if now in RED else made.fixed).append(name)
            elif was.outcome == "passed" and now != "passed":
                made.broken.append(name)
            else:
                unchanged += 1
        newly_red = [name for name, case in after.items() if case.is_red and name not in before]
        return cls(made.fixed, [*made.broken, *newly_red], made.still_red, unchanged)

    def as_json(self) -> JSON:
        answer: JSON = {"unchanged": self.unchanged}
        for name in ("fixed", "broken", "still_red"):
            ids: list[str] = getattr(self, name)
            answer |= {name: ids[:MOST_SHOWN], f"{name}_total": len(ids)}
        return answer


RED = {"failed", "error", ""}


def _outcome_of(name: str, cases: dict[str, Case]) -> str:
    """A file that could not be collected is a case too: now its tests stand for it."""
    if name in cases:
        return cases[name].outcome
    inside = [case for other, case in cases.items() if other.startswith(f"{name}::")]
    if not inside:
        return ""
    return "failed" if any(case.is_red for case in inside) else "passed"


@dataclass(frozen=True, slots=True)
class Proof:
    """``reason`` says why the patch is not proven; it is empty when it is."""

    reason: str
    before: Check
    after: Check
    """With the base commit's tests."""
    cases: Cases | None
    """None where the check is not pytest."""
    edited: list[str]
    """Files of the patch that decide the check, and were left out of ``after``."""
    own: Check | None
    """With the whole patch, where it edits such files."""
    findings: Change

    @property
    def ok(self) -> bool:
        return not self.reason

    def as_json(self) -> JSON:
        own = self.own.as_json() if self.own else None
        return {
            "ok": self.ok,
            "reason": self.reason,
            "command": self.after.argv,
            "before": self.before.as_json(),
            "after": self.after.as_json(),
            "cases": self.cases.as_json() if self.cases else None,
            "edited": {"files": self.edited, "check": own} if self.edited else None,
        }


def prove(
    copy: OwnCopy,
    patch: Patch,
    argv: Sequence[str],
    enclosure: Enclosure,
    before: Check | None = None,
) -> Proof:
    """Run the check on clean checkouts without and with the patch.

    ``before`` is the check of the start state, where somebody has run it already.

    Raises:
        as ``run_check`` and ``OwnCopy.fresh`` do.
    """

    def walled(checkout: Checkout) -> Enclosure:
        return enclosure.of(checkout.view, checkout.mounts)

    paths = [file.path for file in patch.files]
    edited = [path for path in paths if decides_the_check(path)]
    with copy.fresh() as checkout:
        clean = walled(checkout)
        found_before = Findings.of(clean, paths)
        before = before or run_check(clean, argv)
    with copy.fresh(patch, without=edited) as checkout:
        patched = walled(checkout)
        found_after = None if edited else Findings.of(patched, paths)
        after = run_check(patched, argv)
    own = None
    if found_after is None:
        with copy.fresh(patch) as checkout:
            whole = walled(checkout)
            found_after = Findings.of(whole, paths)
            own = run_check(whole, _with_modules(argv, edited, whole))
    cases = None
    if before.cases is not None and after.cases is not None:
        cases = Cases.between(before.cases, after.cases)
    reason = _why_not(before, after, cases, own)
    return Proof(reason, before, after, cases, edited, own, found_before.then(found_after))


def _with_modules(argv: Sequence[str], edited: Sequence[str], whole: Enclosure) -> list[str]:
    """The command for the edited test modules alone, where pytest was given no paths."""
    modules = [
        path for path in edited if is_pytest_module(path) and (whole.folder / path).is_file()
    ]
    named = any((whole.folder / word.partition("::")[0]).exists() for word in argv[1:])
    return [*argv, *modules] if is_pytest(argv) and modules and not named else list(argv)


def _why_not(before: Check, after: Check, cases: Cases | None, own: Check | None) -> str:
    if own and not own.ok:
        return f"with the patch's own changes to the tests: {own.reason}"
    if not after.ok:
        if own and after.found_no_tests and before.found_no_tests:
            return ""  # the project had no tests: those of the patch are the only ones there are
        of_base = " (with the tests as they were before the patch)" if own else ""
        return f"{after.reason}{of_base}"
    if cases and cases.broken:
        some = ", ".join(cases.broken[:3])
        return f"{len(cases.broken)} tests that passed before do not any more, such as {some}"
    return ""

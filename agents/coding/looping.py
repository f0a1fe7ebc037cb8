"""One attempt of an agent: write, check, prove, review, and once more, until the answer is yes."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from agents.coding.checking import Check, run_check
from agents.coding.coder import Coder
from agents.coding.enclosure import Enclosure
from agents.coding.files import CopyFiles, EditLimits
from agents.coding.guard import Commands
from agents.coding.models import ENDED_BY_MODEL, WatchedModel, outcome_of
from agents.coding.own_copy import OwnCopy
from agents.coding.patch import Patch
from agents.coding.proof import Proof, prove
from agents.coding.refusals import Blocked, LimitExceeded
from agents.coding.reviewer import Verdict, review
from agents.coding.transcript import NAME, Transcript
from agents.contract import JSON, LimitReached, Outcome, ProcessorContext, Rejected, TimedOut

PATCH = "changes.patch"
PATCH_TYPE = "text/x-diff; charset=utf-8"
TOLD = 6000
"""Characters of a red check that go back to the coder: what a small window has room for."""
LONGEST_RESERVE = timedelta(minutes=2)
"""Kept back from the models, to save the patch and show what it does."""

TASK = "The task:\n\n{description}"
RED = "The check is not green yet. Correct the code, then stop.\n\n{check}"
UNPROVEN = "The check counts with the tests as they were before your change: {reason}. Correct it."
SENT_BACK = "A reviewer read your change and asks for corrections:\n\n{problems}"
NOTHING = "No file has been changed. Use the tools to change what the task needs, then stop."
MOST_IDLE = 2
"""Times a coder may stop without having changed anything."""

Ended = Literal[
    "approved", "passed", "check_failed", "reviewer_refused", "blocked", "gave_up", "unchanged"
]


@dataclass(frozen=True, slots=True)
class Asked:
    """A normalised payload."""

    description: str
    check: list[str] | None
    max_loops: int
    apply_changes: bool

    @classmethod
    def of(cls, payload: JSON) -> Asked:
        command = payload["check_command"]
        return cls(
            payload["description"],
            shlex.split(command) if command else None,
            payload["max_loops"],
            payload["apply_changes"],
        )


class Work:
    """The loop on one copy. ``done`` runs it; ``result`` tells what is known, at any moment."""

    def __init__(
        self,
        asked: Asked,
        copy: OwnCopy,
        enclosure: Enclosure,
        models: tuple[WatchedModel, WatchedModel | None],
        transcript: Transcript,
        context: ProcessorContext,
    ) -> None:
        self._asked = asked
        self._copy = copy
        self._enclosure = enclosure
        self._coder_model, self._reviewer_model = models
        self._transcript = transcript
        self._context = context
        self._begun = time.monotonic()
        profile = self._coder_model.asked
        self._most = EditLimits(profile.max_files, profile.max_bytes)
        self._files = CopyFiles(enclosure, self._most)
        self._commands = Commands(enclosure, left=self._time_for_models)
        check = shlex.join(asked.check) if asked.check else None
        self._answering = self._coder_model
        self._coder = Coder(self._coder_model, self._files, self._commands, transcript, check)
        self.patch: Patch | None = None
        self._summary = ""
        self._check: Check | None = None
        self._proof: Proof | None = None
        self._before: Check | None = None
        self._verdict: Verdict | None = None

    def done(self) -> Ended | Outcome:
        """Loop until the change is approved, or no more can be done: how it ended.

        What a model or a limit ended is an outcome. Its patch is kept all the same.

        Raises:
            what the sandbox and the copy raise: see ``agents.processors.agent``.
        """
        try:
            return self._looped()
        except (Blocked, LimitExceeded, *ENDED_BY_MODEL) as error:
            last: Exception = error
        try:
            if not isinstance(last, Blocked):
                self._keep_patch()
        except (Blocked, LimitExceeded) as worse:
            last = worse
        return self._ended_by(last)

    def _ended_by(self, error: Exception) -> Ended | Outcome:
        if isinstance(error, Blocked):
            self.patch = None
            self._summary = str(error)
            return "blocked"
        result = self.result(None)
        if isinstance(error, LimitExceeded):
            return LimitReached(error.limit, str(error), result)
        ended = outcome_of(error, self._answering, result)
        return ended or TimedOut("the attempt's time was nearly up", result)

    def _looped(self) -> Ended:
        prompt = TASK.format(description=self._asked.description)
        ended: Ended = "unchanged"
        idle = 0
        for loop in range(1, self._asked.max_loops + 1):
            self._transcript.loop = loop
            self._answering = self._coder_model
            self._summary = self._coder.ask(prompt, self._time_for_models())
            self._keep_patch()
            if self.patch is None:
                idle += 1
                if idle >= MOST_IDLE:
                    return "blocked" if self._blocked else "unchanged"
                prompt = NOTHING
                continue
            prompt, ended = self._judged(self.patch)
            if not prompt:
                return ended
        return ended

    def _judged(self, patch: Patch) -> tuple[str, Ended]:
        """What the coder is told next, empty when there is nothing left to say; and how it stands.

        The check first, because it costs no model; the proof last but one, so that a reviewer reads
        only what holds.
        """
        if self._asked.check is not None:
            self._check = run_check(self._enclosure, self._asked.check)
            self._told_of_check(self._check)
            if not self._check.ok:
                return RED.format(check=self._check.told(TOLD)), "check_failed"
            self._proof = prove(self._copy, patch, self._asked.check, self._enclosure, self._before)
            self._before = self._proof.before
            if not self._proof.ok:
                return UNPROVEN.format(reason=self._proof.reason), "check_failed"
        if self._reviewer_model is None:
            return "", "passed"
        self._answering = self._reviewer_model
        self._verdict = review(
            self._reviewer_model,
            self._transcript,
            self._asked.description,
            patch.text,
            self._time_for_models(),
        )
        if self._verdict.approved:
            return "", "approved"
        return SENT_BACK.format(problems=self._verdict.told()), "reviewer_refused"

    def _keep_patch(self) -> None:
        """The patch as it is now, also in the attempt's files; None where nothing is changed.

        Raises:
            Blocked: it would hold a secret.
            LimitExceeded: it changes more than it may.
        """
        patch = self._copy.diff()
        self._enclosure.refuse_secrets(file.path for file in patch.files)
        self.patch = None if patch.is_empty else patch
        if self.patch is None:
            return
        self._context.artefact(PATCH, PATCH_TYPE).write_text(patch.text, encoding="utf-8")
        # Commands change files too, which the tools do not count.
        if len(patch.files) > self._most.max_files:
            raise LimitExceeded("files", f"more than {self._most.max_files} files were changed")
        if len(patch.text.encode()) > 4 * self._most.max_bytes:
            raise LimitExceeded("bytes", "the patch is four times as long as what may be written")

    def result(self, ended: Ended | None) -> JSON:
        """The attempt's result, but for what becomes of the patch in the workspace."""
        reviewer = self._reviewer_model
        return {
            "ok": ended in {"approved", "passed"},
            "ended": ended or "limit",
            "loops": self._transcript.loop,
            "summary": self._summary,
            "validator_ok": self._proof.ok if self._proof else self._check and self._check.ok,
            "verdict": self._verdict.as_json() if self._verdict else None,
            "blocked": self._blocked,
            "base_commit": self._copy.base_commit,
            "patch": described(self.patch) if self.patch else None,
            "applied": "none",
            "conflicts": [],
            "check": self._proof.as_json() if self._proof else None,
            "findings": self._proof.findings.as_json() if self._proof else None,
            "usage": {
                "coder": self._coder_model.used(),
                "reviewer": reviewer.used() if reviewer else None,
            },
            "models": {
                "coder": self._coder_model.asked.name,
                "reviewer": reviewer.asked.name if reviewer else None,
            },
            "transcript": NAME,
            "seconds": round(time.monotonic() - self._begun, 3),
        }

    def refusal(self, ended: Ended) -> Rejected:
        """The outcome of an answer that is no."""
        return Rejected(self._why(ended), self.result(ended))

    def _why(self, ended: Ended) -> str:
        loops = self._transcript.loop
        match ended:
            case "check_failed" if self._check and not self._check.ok:
                return f"the check is red after {loops} loops: {self._check.reason}"
            case "check_failed":
                return f"the change is not proven: {self._proof.reason if self._proof else ''}"
            case "reviewer_refused":
                problems = self._verdict.told() if self._verdict else ""
                return f"the reviewer refused it after {loops} loops:\n{problems}"
            case "blocked":
                return f"the guardrail stopped it ({self._blocked} times): {self._summary}"
        return f"the agent changed nothing: {self._summary}"

    @property
    def _blocked(self) -> int:
        return self._files.blocked + self._commands.blocked

    def _told_of_check(self, check: Check) -> None:
        self._transcript.add(
            "check",
            ok=check.ok,
            reason=check.reason,
            output=check.told(TOLD),
            seconds=round(check.seconds, 3),
        )

    def _time_for_models(self) -> timedelta:
        remaining = self._context.remaining()
        return remaining - min(LONGEST_RESERVE, remaining / 5)


def described(patch: Patch) -> JSON:
    """A patch in a result; its text is the artefact."""
    return {
        "artefact": PATCH,
        "sha256": patch.sha256,
        "bytes": len(patch.text.encode()),
        "files": [file.as_json() for file in patch.files],
    }

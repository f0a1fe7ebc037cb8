"""The supervisor of a few slots: gives them jobs and takes in their answers."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from django.conf import settings

from agents.contract import JSON
from batches import registry
from batches.models import LogLine, Workspace
from batches.queue import lease as leases
from batches.queue.claim import Claimed, Lease
from batches.queue.verdicts import Also, File, Verdict
from batches.states import AttemptOutcome
from batches.supervision.artefacts import store
from batches.supervision.ledger import Ledger
from batches.supervision.pace import Pace, Room
from batches.supervision.slots import Job, SlotProcess

logger = logging.getLogger(__name__)

MOST_STILLBORN = 5


class SlotsCannotStart(Exception):
    """Slot processes end before they are ready, time after time."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a supervisor is set up for."""

    slots: int
    kinds: dict[str, registry.Kind]
    scratch: Path


class Supervisor:
    """Not thread-safe: one loop calls it."""

    def __init__(self, profile: Profile, also: Also | None = None) -> None:
        """``also`` is written with each verdict that counts."""
        self.profile = profile
        self.pace = Pace()
        self.ledger = Ledger(also)
        self.workspaces: dict[UUID, Workspace] = {}
        self.backlog: list[Job] = []
        """Claimed, but in no slot at the moment."""
        self.returned: list[str] = []
        """Resources that a probe found back."""
        self.sandbox = ""
        """What holds commands of tasks here; known once a slot that was asked has tried."""
        self._unwanted: dict[Lease, tuple[AttemptOutcome, str]] = {}
        self._generation = itertools.count()
        self._stillborn = 0
        self._told: JSON = {}
        """What rows added to the settings of the slots."""
        self._to_tell: set[str] = set()
        """Kinds whose settings must be read again before the backlog is given out."""
        self.slots = [self._start(number) for number in range(profile.slots)]

    def _start(self, number: int) -> SlotProcess:
        scratch = self.profile.scratch / f"{number}-{next(self._generation)}"
        return SlotProcess(number, scratch, settings.PROCESSOR_SETTINGS | self._told)

    def ask_for_sandbox(self) -> None:
        """Let a slot try what holds commands of tasks here, which takes it a tenth of a second."""
        self.slots[0].send({"op": "sandbox"})

    # -- giving out work

    def room(self) -> Room:
        """How much more can be claimed now."""
        waiting = sum(job.load for job in self.backlog)
        free = [0.0 if slot.closed else max(0.0, 1.0 - slot.load) for slot in self.slots]
        # The last slot is kept for kinds that are not long, where there are two or more.
        for_long = free[:-1] if len(self.slots) > 1 else free
        return Room(
            pace=self.pace,
            free=sum(free) - waiting,
            free_for_long=sum(for_long) - waiting,
            kinds={name: kind.long for name, kind in self.profile.kinds.items()},
        )

    def offer(self, claimed: Iterable[Claimed], expires: float) -> None:
        """Take over claimed tasks, whose leases end then, and give them to slots."""
        jobs = [self._job(item, expires) for item in claimed]
        self._to_tell |= {job.claimed.kind for job in jobs}
        self.put_back(jobs)
        self.assign()

    def tell(self, kinds: Iterable[str]) -> None:
        """Let the slots know the settings of these kinds as the rows have them now."""
        added: JSON = {}
        for name in kinds:
            added |= self.profile.kinds[name].settings()
        if added.items() <= self._told.items():
            return
        self._told |= added
        for slot in self.slots:
            slot.configure(settings.PROCESSOR_SETTINGS | self._told)

    def _job(self, claimed: Claimed, expires: float) -> Job:
        kind = self.profile.kinds[claimed.kind]
        head = {
            "op": "run",
            "id": str(claimed.lease.task_id),
            "attempt": claimed.lease.attempt,
            "processor": kind.processor_path,
            "timeout": claimed.timeout,
            "workspace": self._place(claimed.workspace_id),
        }
        return Job(
            claimed=claimed,
            inputs=None if kind.inputs_path else "",
            head=json.dumps(head)[:-1],
            load=1.0 / self.pace.depth(claimed.kind),
            long=kind.long,
            expires=expires,
        )

    def _place(self, workspace: UUID | None) -> JSON | None:
        if workspace is None:
            return None
        row = self.workspaces[workspace]
        return {
            "name": row.name,
            "root": str(Path(row.path).resolve()),
            "environment": row.environment,
        }

    def put_back(self, jobs: list[Job]) -> None:
        """Into the backlog, but for those that nobody wants any more."""
        now = time.monotonic()
        for job in jobs:
            job.waiting_since = now
            if unwanted := self._unwanted.get(job.claimed.lease):
                self.end(job, *unwanted)
            else:
                self.backlog.append(job)

    def assign(self) -> None:
        """Move jobs from the backlog into slots that have room."""
        if self._to_tell:
            self.tell(self._to_tell)
            self._to_tell.clear()
        self._read_inputs()
        waiting: list[Job] = []
        given: dict[int, list[Job]] = {}
        loads = {slot.number: slot.load for slot in self.slots if not slot.closed}
        for job in self.backlog:
            number = self._slot_for(job, loads)
            if number is None:
                waiting.append(job)
                continue
            loads[number] += job.load
            given.setdefault(number, []).append(job)
        for number, jobs in given.items():
            self.slots[number].give(jobs)
        self.backlog = waiting

    def _read_inputs(self) -> None:
        """What jobs of the backlog begin from. When the database fails, they are asked again."""
        for job in list(self.backlog):
            if job.inputs is not None:
                continue
            try:
                inputs = self.profile.kinds[job.claimed.kind].inputs(job.claimed.lease.task_id)
                job.inputs = json.dumps(inputs)
            except registry.InputMissing as error:
                self.backlog.remove(job)
                self.end(job, AttemptOutcome.ERROR, str(error))

    def _slot_for(self, job: Job, loads: dict[int, float]) -> int | None:
        reserved = len(self.slots) - 1 if job.long and len(self.slots) > 1 else None
        free = [
            number
            for number, load in loads.items()
            if number != reserved and load + job.load <= 1.0 + 1e-6
        ]
        return min(free, key=loads.__getitem__, default=None)

    def hand_back(self, waiting_longer_than: float = 0.0) -> None:
        """Release what no slot had room for in so many seconds: other workers may."""
        kept, since = [], time.monotonic() - waiting_longer_than
        for job in self.backlog:
            if job.waiting_since <= since:
                self.end(job, AttemptOutcome.RELEASED, "Handed back before it began.")
            else:
                kept.append(job)
        self.backlog = kept

    # -- hearing from slots

    def hear(self, slot: SlotProcess) -> None:
        """Take in what a slot says; replace one that is gone."""
        alive = slot.receive()
        self._hear_inbox(slot)
        if not alive:
            self._stillborn = 0 if slot.ready else self._stillborn + 1
            if self._stillborn >= MOST_STILLBORN:
                raise SlotsCannotStart(
                    "python -m agents.slot ends at once: see its messages above."
                )
            self.replace(slot, AttemptOutcome.LOST, "The process that ran it ended: {how}.")

    def _hear_inbox(self, slot: SlotProcess) -> None:
        while slot.inbox:
            # Taken out afterwards: what the database failed for is heard again.
            self._heard(slot, slot.inbox[0])
            slot.inbox.popleft()

    def _heard(self, slot: SlotProcess, message: JSON) -> None:
        match message["event"]:
            case "ready":
                slot.ready = True
                slot.begun = time.monotonic()
            case "outcome" | "artefact" | "effect":
                self._heard_of_task(slot, message)
            case "log":
                self.ledger.log(_log_line(message))
            case "recalled":
                self.put_back(slot.take_back(set(message["ids"])))
            case "sandbox":
                self._sandboxed(message["kind"], message["reason"])
            case "tidied":
                slot.tidying = False
                if message["reason"]:
                    logger.error("what a killed attempt left behind stays: %s", message["reason"])
            case "probe":
                slot.probing = ""
                if message["back"]:
                    self.returned.append(message["resource"])
                else:
                    logger.info("still away: %s %s", message["resource"], message["reason"])

    def _heard_of_task(self, slot: SlotProcess, message: JSON) -> None:
        if not slot.jobs or slot.jobs[0].id != message["id"]:
            logger.error("slot %d spoke of a task it does not run: %s", slot.number, message)
            return
        job = slot.jobs[0]
        match message["event"]:
            case "outcome":
                self._outcome(slot, message)
            case "artefact":
                job.artefacts[message["name"]] = message["media_type"], Path(message["path"])
            case "effect" if not slot.dead:
                alone_in = job.claimed.workspace_id if message["exclusive"] else None
                effect = leases.announce_effect(job.claimed.lease, alone_in)
                granted, busy = effect == leases.Effect.GRANTED, effect == leases.Effect.BUSY
                slot.send({"op": "effect", "granted": granted, "busy": busy})

    def _sandboxed(self, kind: str, reason: str) -> None:
        self.sandbox = kind
        if reason:
            consequence = (
                "they wait, because REQUIRE_SANDBOX is set"
                if settings.REQUIRE_SANDBOX
                else "they run with resource limits alone"
            )
            logger.warning("commands of tasks are NOT isolated: %s; %s", reason, consequence)

    def _outcome(self, slot: SlotProcess, message: JSON) -> None:
        job = slot.finished()
        self.pace.ran(job.claimed.kind, message["seconds"])
        verdict = Verdict(
            lease=job.claimed.lease,
            outcome=AttemptOutcome(message["outcome"]),
            result=message.get("result"),
            error=message.get("error", ""),
            seconds=message["seconds"],
            retry_in=message.get("retry_in"),
            resource=message.get("resource", ""),
            interrupted=message.get("interrupted", False),
            sandbox=message["sandbox"],
        )
        self._record(job, verdict)
        if message["recycle"] and not slot.retiring:
            slot.retire()

    def _record(self, job: Job, verdict: Verdict) -> None:
        """Into the ledger, with the files of the attempt."""
        self._unwanted.pop(verdict.lease, None)
        files: tuple[File, ...] = ()
        problem = ""
        try:
            files = store(job.claimed.lease, job.artefacts)
        except OSError as error:
            logger.exception("the files of %s cannot be stored", job.id)
            problem = f"Its files cannot be stored: {error}"
        self.ledger.add(job.claimed, verdict.with_files(files, problem))

    # -- ending work

    def replace(self, slot: SlotProcess, outcome: AttemptOutcome, error: str) -> None:
        """Kill a slot, end its first job so, keep the others for its successor."""
        victim = slot.jobs[0] if slot.jobs else None
        how = slot.kill()
        slot.receive()
        self._hear_inbox(slot)  # what it had answered before it died counts
        remaining = list(slot.jobs)
        slot.jobs.clear()
        if remaining:
            first, *others = remaining
            if first is victim:
                self.end(first, outcome, error.format(how=how), began=slot.begun)
            else:
                reason = "Its slot was stopped because of another task."
                self.end(first, AttemptOutcome.RELEASED, reason, began=slot.begun)
            self.put_back(others)
        slot.close()
        self.slots[slot.number] = fresh = self._start(slot.number)
        if remaining:
            killed = remaining[0].claimed
            self.let_tidy(fresh, killed.kind, killed.workspace_id)

    def let_tidy(self, slot: SlotProcess, kind_name: str, workspace: UUID | None) -> None:
        """Have a slot clear up what attempts of a kind that were killed left in a workspace."""
        kind = self.profile.kinds[kind_name]
        # It may be no longer there, or not be this machine's any more.
        if kind.tidy and workspace in self.workspaces:
            slot.tidy(kind.processor_path, self._place(workspace))

    def drop(self, leases: Iterable[Lease], outcome: AttemptOutcome, error: str) -> None:
        """Stop these leases' work: kill the slot where one runs, take out those that wait."""
        self._unwanted |= dict.fromkeys(leases, (outcome, error))
        for slot in self.slots:
            if slot.jobs and slot.jobs[0].claimed.lease in self._unwanted:
                self.replace(slot, outcome, error)
            elif any(job.claimed.lease in self._unwanted for job in slot.jobs):
                slot.recall()
        waiting, self.backlog = self.backlog, []
        self.put_back(waiting)

    def end(
        self, job: Job, outcome: AttemptOutcome, error: str, *, began: float | None = None
    ) -> None:
        """Enter a verdict of the supervisor's own; ``began`` None: it had not begun."""
        verdict = Verdict(
            lease=job.claimed.lease,
            outcome=outcome,
            error=error,
            seconds=0.0 if began is None else time.monotonic() - began,
            interrupted=began is not None,
        )
        self._record(job, verdict)

    def held(self) -> Iterator[Job]:
        """Every job whose lease is held here."""
        for slot in self.slots:
            yield from slot.jobs
        yield from self.backlog

    @property
    def busy(self) -> bool:
        """Is anything claimed that has not been settled?"""
        return any(self.held()) or len(self.ledger) > 0

    def stop_now(self) -> None:
        """Kill the slots and hand everything back."""
        for slot in self.slots:
            slot.kill()
            try:
                slot.receive()
                self._hear_inbox(slot)
            except OSError:
                logger.exception("what slot %d said last is lost", slot.number)
            for index, job in enumerate(slot.jobs):
                began = slot.begun if index == 0 else None
                self.end(
                    job,
                    AttemptOutcome.RELEASED,
                    "Handed back: its process was stopped.",
                    began=began,
                )
            slot.jobs.clear()
            slot.close()
        self.hand_back()


def _log_line(message: JSON) -> LogLine:
    return LogLine(
        task_id=UUID(message["id"]),
        attempt=message["attempt"],
        at=datetime.fromisoformat(message["at"]),
        event=message["name"],
        fields=message["fields"],
    )

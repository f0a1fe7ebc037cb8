"""One attempt of an agent from end to end: models, copy, loop, and the patch into the workspace."""

from __future__ import annotations

from agents.coding.applying import Applied, apply
from agents.coding.enclosure import Enclosure
from agents.coding.endpoint import ready
from agents.coding.git import ChangeRefused, GitFailed, RepositoryRefused, StartConflict
from agents.coding.looping import Asked, Work
from agents.coding.models import WatchedModel
from agents.coding.own_copy import OwnCopy
from agents.coding.profile import Profile, find
from agents.coding.transcript import Transcript
from agents.command_run import REFUSALS, Ground, refused
from agents.contract import (
    JSON,
    EffectRefused,
    Outcome,
    ProcessorContext,
    Rejected,
    StillAway,
    Succeeded,
    TryAgain,
    Unavailable,
)


def run(payload: JSON, context: ProcessorContext) -> Outcome:
    """Carry out a normalised payload."""
    profiles = [
        find(name, context.settings)
        for name in (payload["coder_model"], payload["reviewer_model"])
        if name is not None
    ]
    names: list[str] = []
    for profile in profiles:
        try:
            names.append(ready(profile))
        except StillAway as away:
            return Unavailable(profile.resource, str(away))
    transcript = Transcript(context)
    try:
        return _on_a_copy(payload, context, list(zip(profiles, names, strict=True)), transcript)
    except REFUSALS as error:
        return refused(error, "")
    except (RepositoryRefused, ChangeRefused) as error:
        return Rejected(str(error), {"ok": False, "ended": "blocked"})
    except StartConflict as error:
        return Rejected(str(error), {"ok": False, "ended": "blocked", "conflicts": error.conflicts})
    except (EffectRefused, GitFailed) as error:
        return TryAgain(str(error))
    finally:
        transcript.close()


def _on_a_copy(
    payload: JSON,
    context: ProcessorContext,
    asked_of: list[tuple[Profile, str]],
    transcript: Transcript,
) -> Outcome:
    start = context.inputs.get("start", [])
    ground = Ground.of_attempt(".", context)
    roles = zip(("coder", "reviewer"), asked_of, strict=False)
    models = [WatchedModel(profile, name, role, transcript) for role, (profile, name) in roles]
    reviewer = models[1] if len(models) > 1 else None
    with OwnCopy.opened(context, ground.sandbox, start) as copy:
        enclosure = Enclosure(ground, copy.view, copy.mounts, context)
        asked = Asked.of(payload)
        work = Work(asked, copy, enclosure, (models[0], reviewer), transcript, context)
        ended = work.done()
        if not isinstance(ended, str):
            return ended
        if ended not in {"approved", "passed"} or work.patch is None:
            return work.refusal(ended)
        result = work.result(ended)
        if not asked.apply_changes:
            return Succeeded(result | {"applied": "pending"})
        applied = apply(work.patch, start, context, ground.sandbox, copy.origin)
    if isinstance(applied, Applied):
        return Succeeded(result | {"applied": applied.status})
    conflict = {"ok": False, "applied": "conflict", "conflicts": applied.as_json()}
    return Rejected(f"the patch {applied.reason}", result | conflict)

"""Limits of models: at most so many tasks that need one run at once, over all workers.

Which models a batch's tasks need together is kept with the batch, so that a lane of which every
task needs a model that is taken costs no look at its rows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence

from agents.contract import MODEL_RESOURCE
from batches.queue import sql

RUNNING = "t.state = 'running'"
TABLE = "batches_modelprofile"
RESOURCE = f"('{MODEL_RESOURCE}' || m.name)"


def limited_demands(batch: str) -> str:
    """What a batch's tasks need, and which models have a limit: JSON text; NULL without either."""
    if sql.is_postgres():
        limited = f"jsonb_agg({RESOURCE})"
        pair = "jsonb_build_array({demands}, {limited})::text"
    else:
        limited = f"json_group_array({RESOURCE})"
        pair = "json_array(json({demands}), json({limited}))"
    names = f"(SELECT {limited} FROM {TABLE} m WHERE m.parallel IS NOT NULL)"
    found = pair.format(demands=f"{batch}.demands", limited=names)
    empty = "'[]'::jsonb" if sql.is_postgres() else "'[]'"
    return f"CASE WHEN {batch}.demands <> {empty} THEN {found} END"


def read(found: str | None) -> tuple[frozenset[str], ...]:
    """Each set of models with a limit that is needed together; empty where none has one.

    An empty set among them is a task that no limit holds back.
    """
    if found is None:
        return ()
    demands, limited = json.loads(found)
    sets = [frozenset(demand) & frozenset(limited or ()) for demand in demands]
    return tuple(sets) if any(sets) else ()


def places_left(
    names: Collection[str], *, taken_by: Sequence[str] = (RUNNING,), lock: str = ""
) -> dict[str, int]:
    """Model → how many more tasks may need it at once; one without a limit is left out.

    Each condition of ``taken_by`` says which tasks ``t`` take a place. With ``lock`` the limits are
    locked before the tasks are counted: of two claimers the second counts what the first claimed.
    """
    if not names:
        return {}
    wanted = [name.removeprefix(MODEL_RESOURCE) for name in sorted(names)]
    limits = {
        MODEL_RESOURCE + name: parallel
        for name, parallel in sql.rows(
            f"SELECT m.name, m.parallel FROM {TABLE} m WHERE m.parallel IS NOT NULL "
            f"AND {sql.in_texts('m.name')} ORDER BY m.name{lock}",
            [sql.texts(wanted)],
        )
    }
    if not limits:
        return {}
    used = _needed_by(taken_by, limits)
    return {name: int(parallel) - used.get(name, 0) for name, parallel in limits.items()}


def _needed_by(conditions: Sequence[str], names: Iterable[str]) -> dict[str, int]:
    """Model → the tasks that need it and meet one of the conditions, each by its own index."""
    tasks = " UNION ALL ".join(f"SELECT t.needs FROM {sql.TASK} t WHERE {c}" for c in conditions)
    each = "jsonb_array_elements_text" if sql.is_postgres() else "json_each"
    found = sql.rows(
        f"SELECT n.value, count(*) FROM ({tasks}) taken, "
        f"{each}(taken.needs) n{'(value)' * sql.is_postgres()} "
        f"WHERE {sql.in_texts('n.value')} GROUP BY n.value",
        [sql.texts(names)],
    )
    return {name: int(number) for name, number in found}


def full(left: Mapping[str, int]) -> frozenset[str]:
    """The models that no further task may need now."""
    return frozenset(name for name, places in left.items() if places <= 0)

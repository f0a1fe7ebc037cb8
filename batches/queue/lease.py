"""Keeping a lease: renewing it, hearing of a cancel, announcing an effect."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from django.conf import settings
from django.db import transaction

from batches.queue import sql
from batches.queue.claim import Lease


@dataclass(frozen=True, slots=True)
class Renewal:
    """Which leases were renewed and which are lost; one in neither was locked: ask again."""

    renewed: frozenset[Lease]
    lost: frozenset[Lease]


def renew(leases: Sequence[Lease]) -> Renewal:
    """Extend the leases that still hold by LEASE_SECONDS from now.

    Rows another writer has locked are passed over: an update of many running rows that waited for
    them was seen to deadlock with settles.
    """
    if not leases:
        return Renewal(frozenset(), frozenset())
    renewed = _leases(
        sql.rows(
            f"""
            WITH held AS {"MATERIALIZED" if sql.is_postgres() else ""} (
                SELECT t.id FROM {sql.TASK} t JOIN {_given()} ON i.id = t.id
                WHERE t.attempt = i.attempt AND t.state = 'running'
                ORDER BY t.id{sql.locked("FOR UPDATE OF t SKIP LOCKED")}
            )
            UPDATE {sql.TASK} SET leased_until = {sql.later("%s")}
            WHERE id IN (SELECT id FROM held)
            RETURNING id, attempt
            """,
            [_parameter(leases), settings.LEASE_SECONDS],
        )
    )
    missing = [lease for lease in leases if lease not in renewed]
    return Renewal(renewed, frozenset(missing) - _holding(missing) if missing else frozenset())


def _holding(leases: Sequence[Lease]) -> frozenset[Lease]:
    return _leases(
        sql.rows(
            f"SELECT t.id, t.attempt FROM {sql.TASK} t JOIN {_given()} ON i.id = t.id "
            "WHERE t.attempt = i.attempt AND t.state = 'running'",
            [_parameter(leases)],
        )
    )


def holds(lease: Lease) -> bool:
    """Is the lease held at this moment? Until the transaction ends nobody can take it away."""
    found = sql.rows(
        f"SELECT 1 FROM {sql.TASK} t WHERE t.id = %s AND t.attempt = %s AND t.state = 'running'"
        f"{sql.locked('FOR UPDATE')}",
        [sql.one_id(lease.task_id), lease.attempt],
    )
    return bool(found)


def cancel_wanted(leases: Sequence[Lease]) -> frozenset[Lease]:
    """Those of the leases whose task or batch somebody asked to cancel."""
    if not leases:
        return frozenset()
    return _leases(
        sql.rows(
            f"SELECT t.id, t.attempt FROM {sql.TASK} t JOIN {_given()} ON i.id = t.id "
            f"JOIN {sql.BATCH} b ON b.id = t.batch_id "
            "WHERE t.attempt = i.attempt AND t.state = 'running' "
            "AND (t.cancel_requested_at IS NOT NULL OR b.cancel_requested_at IS NOT NULL)",
            [_parameter(leases)],
        )
    )


class Effect(StrEnum):
    """What an attempt is told that is about to change something shared."""

    GRANTED = "granted"
    BUSY = "busy"
    """Another attempt has the workspace to itself, as long as it runs."""
    REFUSED = "refused"
    """The lease is lost, or somebody asked to cancel the task or its batch."""


def announce_effect(lease: Lease, alone_in: UUID | None = None) -> Effect:
    """Renew the lease and write down that something shared is about to change.

    From then on a lost attempt is not replayed. With ``alone_in``, a workspace, no other attempt
    has that one to itself from then on, until this one is settled.
    """
    if alone_in is None:
        return Effect.GRANTED if _announce(lease) else Effect.REFUSED
    if _others_have(alone_in, lease):
        return Effect.BUSY  # without a transaction: an attempt that waits asks time and again
    with transaction.atomic():
        # Looked for again once its row is locked: two that only look both find it free.
        sql.rows(
            f"SELECT w.id FROM {sql.WORKSPACE} w WHERE w.id = %s{sql.locked('FOR NO KEY UPDATE')}",
            [sql.one_id(alone_in)],
        )
        if _others_have(alone_in, lease):
            return Effect.BUSY
        if not _announce(lease):
            return Effect.REFUSED
        sql.change(
            f"UPDATE {sql.WORKSPACE} SET changing_task = %s, changing_attempt = %s WHERE id = %s",
            [sql.one_id(lease.task_id), lease.attempt, sql.one_id(alone_in)],
        )
    return Effect.GRANTED


def _others_have(workspace: UUID, lease: Lease) -> bool:
    """Does an attempt that still runs have it to itself, and is not that of the lease?"""
    return bool(
        sql.rows(
            f"SELECT 1 FROM {sql.WORKSPACE} w JOIN {sql.TASK} t ON t.id = w.changing_task "
            "AND t.attempt = w.changing_attempt AND t.state = 'running' "
            "WHERE w.id = %s AND t.id <> %s",
            [sql.one_id(workspace), sql.one_id(lease.task_id)],
        )
    )


def _announce(lease: Lease) -> bool:
    changed = sql.change(
        f"UPDATE {sql.TASK} SET leased_until = {sql.later('%s')}, effect_at = {sql.now()} "
        "WHERE id = %s AND attempt = %s AND state = 'running' AND cancel_requested_at IS NULL "
        f"AND leased_until > {sql.now()} AND NOT EXISTS (SELECT 1 FROM {sql.BATCH} b "
        f"WHERE b.id = {sql.TASK}.batch_id AND b.cancel_requested_at IS NOT NULL)",
        [settings.LEASE_SECONDS, sql.one_id(lease.task_id), lease.attempt],
    )
    return changed == 1


def _given() -> str:
    """The leases of the parameter, as a table ``i(id, attempt)``."""
    if sql.is_postgres():
        return "json_to_recordset(%s) AS i(id uuid, attempt int)"
    return (
        "(SELECT json_extract(value, '$.id') AS id, json_extract(value, '$.attempt') AS attempt "
        "FROM json_each(%s)) AS i"
    )


def _parameter(leases: Iterable[Lease]) -> str:
    return json.dumps(
        [
            {
                "id": str(lease.task_id) if sql.is_postgres() else lease.task_id.hex,
                "attempt": lease.attempt,
            }
            for lease in leases
        ]
    )


def _leases(found: Iterable[tuple[object, ...]]) -> frozenset[Lease]:
    return frozenset(Lease(sql.as_uuid(row[0]), int(str(row[1]))) for row in found)

"""Lists of runs: those that are stored, and those in the background that are not."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from astrotriton.gateway.storage.database import Connection
from astrotriton.gateway.storage.runs import exposure_of, model_of
from astrotriton.wire.runs import RunListed, RunState

_NIGHT = timedelta(days=1)


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs are looked for; None: any. What only a complete run has, others do not match."""

    status: RunState | None = None
    exposure: str | None = None
    caller: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    model_version: int | None = None
    flags: tuple[str, ...] = ()
    filter: str | None = None
    observed_since: datetime | None = None
    observed_until: datetime | None = None
    night: datetime | None = None


async def list_all_runs(
    connection: Connection, wanted: RunFilter, after: UUID | None, limit: int
) -> list[RunListed]:
    """The newest runs that match, from one on.

    Parameters
    ----------
    after
        The last run of the page before.
    """
    found: list[RunListed] = []
    if wanted.status in (None, "complete"):
        found += await _complete(connection, wanted, after, limit)
    of_complete = (
        *(wanted.model_version, wanted.flags or None, wanted.filter),
        *(wanted.observed_since, wanted.observed_until, wanted.night),
    )
    if wanted.status != "complete" and all(value is None for value in of_complete):
        found += await _others(connection, wanted, after, limit)
    return sorted(found, key=lambda run: run.run_id, reverse=True)[:limit]


async def _complete(
    connection: Connection, wanted: RunFilter, after: UUID | None, limit: int
) -> list[RunListed]:
    night = wanted.night
    where, values = _where(
        ("r.id < {}", after),
        ("r.exposure_name = {}", wanted.exposure),
        ("r.caller = {}", wanted.caller),
        ("r.created_at >= to_timestamp({}::float8)", _seconds(wanted.since)),
        ("r.created_at < to_timestamp({}::float8)", _seconds(wanted.until)),
        ("m.version = {}", wanted.model_version),
        ("r.flags @> {}::text[]", list(wanted.flags) or None),
        ("r.filter = {}", wanted.filter),
        ("r.observed_at >= to_timestamp({}::float8)", _seconds(wanted.observed_since)),
        ("r.observed_at < to_timestamp({}::float8)", _seconds(wanted.observed_until)),
        ("r.observed_at >= to_timestamp({}::float8)", _seconds(night)),
        ("r.observed_at < to_timestamp({}::float8)", _seconds(night and night + _NIGHT)),
    )
    rows = await connection.fetch(
        f"""
        SELECT f.*, (
            SELECT count(*) FROM detections WHERE run_id = f.id AND is_real
        ) AS real
        FROM (
            SELECT r.*, m.name AS model_name, m.version AS model_version,
                m.digest AS model_digest
            FROM runs r JOIN models m ON m.id = r.model_id
            WHERE {where} ORDER BY r.id DESC LIMIT {limit:d}
        ) f ORDER BY f.id DESC
        """,
        *values,
    )
    return [
        msgspec.convert(
            {
                **row,
                "run_id": row["id"],
                "status": "complete",
                "progress": 1.0,
                "finished_at": row["created_at"],
                "model": model_of(row),
                "exposure": exposure_of(row),
            },
            RunListed,
        )
        for row in rows
    ]


async def _others(
    connection: Connection, wanted: RunFilter, after: UUID | None, limit: int
) -> list[RunListed]:
    where, values = _where(
        ("id < {}", after),
        ("exposure_name = {}", wanted.exposure),
        ("caller = {}", wanted.caller),
        ("status = {}", wanted.status),
        ("created_at >= to_timestamp({}::float8)", _seconds(wanted.since)),
        ("created_at < to_timestamp({}::float8)", _seconds(wanted.until)),
    )
    rows = await connection.fetch(
        f"""
        SELECT *, done / greatest(of, 1)::float8 AS progress FROM jobs
        WHERE status <> 'complete' AND {where} ORDER BY id DESC LIMIT {limit:d}
        """,
        *values,
    )
    return [
        msgspec.convert(
            {
                **row,
                "run_id": row["id"],
                "problem": row["problem"] and msgspec.json.decode(row["problem"]),
            },
            RunListed,
        )
        for row in rows
    ]


def _where(*conditions: tuple[str, Any]) -> tuple[str, list[Any]]:
    known = [(condition, value) for condition, value in conditions if value is not None]
    said = [condition.format(f"${place}") for place, (condition, _) in enumerate(known, 1)]
    return " AND ".join(said) or "true", [value for _, value in known]


def _seconds(time: datetime | None) -> float | None:
    """Since 1970: the first and the last year overflow in other zones than their own."""
    return None if time is None else time.timestamp()

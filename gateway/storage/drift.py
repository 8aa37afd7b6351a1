"""The tables `drift_samples` and `drift_checks`."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec
from asyncpg import Record

from astrotriton.detection.quality.drift import FALSE_ALARMS
from astrotriton.gateway.storage.database import Connection
from astrotriton.wire.drift import DriftCheck, DriftSummary, Feature, Report, Trend
from astrotriton.wire.fields import Window
from astrotriton.wire.models import VersionRef

Described = Mapping[str, float | None]


class Sample(NamedTuple):
    """One exposure as `astrotriton.detection.quality.drift.describe` has it; None is unknown."""

    run_id: UUID
    version: int
    created_at: datetime
    described: Described


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a look for drift found."""

    exposures: int
    scored: int
    reason: str | None
    drifted: list[str]
    features: list[Feature]
    trend: Trend | None
    baseline: str | None


async def insert_samples(connection: Connection, name: str, samples: Sequence[Sample]) -> None:
    """Add exposures."""
    await connection.executemany(
        """
        INSERT INTO drift_samples (run_id, model_name, model_version, created_at, described)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (run_id) DO NOTHING
        """,
        [
            (s.run_id, name, s.version, s.created_at, msgspec.json.encode(s.described).decode())
            for s in samples
        ],
    )


async def find_samples(
    connection: Connection,
    name: str,
    version: int,
    since: datetime,
    until: datetime,
    most: int,
) -> list[Described]:
    """The newest exposures of a time, in its order."""
    rows = await connection.fetch(
        """
        SELECT described FROM (
            SELECT run_id, described FROM drift_samples
            WHERE model_name = $1 AND model_version = $2 AND created_at >= $3 AND created_at < $4
            ORDER BY run_id DESC LIMIT $5
        ) newest ORDER BY run_id
        """,
        *(name, version, since, until, most),
    )
    return [msgspec.json.decode(row["described"]) for row in rows]


class Accepted(NamedTuple):
    """Exposures that a person has called what is to be expected, and since when they are."""

    described: list[Described]
    description: str
    set_at: datetime


async def find_baseline(connection: Connection, name: str, version: int) -> Accepted | None:
    """What a version is compared with instead of what it came with; None if nothing."""
    row = await connection.fetchrow(
        """
        SELECT described, description, set_at FROM drift_baselines
        WHERE model_name = $1 AND model_version = $2
        """,
        *(name, version),
    )
    if row is None:
        return None
    return Accepted(msgspec.json.decode(row["described"]), row["description"], row["set_at"])


async def set_baseline(
    connection: Connection, name: str, version: int, accepted: Accepted | None
) -> None:
    """Set what a version is compared with; None: what it came with."""
    await connection.execute(
        "DELETE FROM drift_baselines WHERE model_name = $1 AND model_version = $2", name, version
    )
    if accepted is not None:
        await connection.execute(
            """
            INSERT INTO drift_baselines (
                model_name, model_version, described, description, set_at
            ) VALUES ($1, $2, $3, $4, $5)
            """,
            *(name, version, msgspec.json.encode(accepted.described).decode()),
            *(accepted.description, accepted.set_at),
        )


async def sampled_versions(connection: Connection, name: str, since: datetime) -> list[int]:
    """The versions that exposures were sampled of."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT model_version FROM drift_samples
        WHERE model_name = $1 AND created_at >= $2 ORDER BY model_version
        """,
        *(name, since),
    )
    return [row["model_version"] for row in rows]


async def count_scored(
    connection: Connection, name: str, version: int, since: datetime, until: datetime
) -> int:
    """How many exposures a version has scored."""
    return int(
        await connection.fetchval(
            """
            SELECT count(*) FROM runs r JOIN models m ON m.id = r.model_id
            WHERE m.name = $1 AND m.version = $2 AND r.created_at >= $3 AND r.created_at < $4
            """,
            *(name, version, since, until),
        )
    )


async def forget_samples(connection: Connection, older: timedelta) -> None:
    """Delete the exposures that are older."""
    await connection.execute(
        "DELETE FROM drift_samples WHERE created_at < now() - $1::interval", older
    )


async def hold_checks(connection: Connection, name: str) -> None:
    """Keep other gateways from looking for drift until the transaction ends."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('drift ' || $1, 0))", name
    )


async def last_checked(connection: Connection, name: str, version: int) -> datetime | None:
    """When a version was last looked at."""
    found: datetime | None = await connection.fetchval(
        "SELECT max(created_at) FROM drift_checks WHERE model_name = $1 AND model_version = $2",
        *(name, version),
    )
    return found


async def insert_check(
    connection: Connection,
    check_id: UUID,
    model: VersionRef,
    window: Window,
    status: str,
    found: Found,
    report: str,
) -> None:
    """Add a look for drift."""
    await connection.execute(
        """
        INSERT INTO drift_checks (
            id, model_name, model_version, created_at, since, until, status, result, report
        ) VALUES ($1, $2, $3, $4, $5, $4, $6, $7, $8)
        """,
        *(check_id, model.name, model.version, window.until, window.since, status),
        *(msgspec.json.encode(found).decode(), report),
    )


async def find_check(connection: Connection, check_id: UUID) -> DriftCheck | None:
    """A look for drift; None if there is none of that id."""
    row = await connection.fetchrow("SELECT * FROM drift_checks WHERE id = $1", check_id)
    return None if row is None else _check(row)


async def list_checks(
    connection: Connection, name: str, version: int, limit: int
) -> list[DriftCheck]:
    """The newest looks at a version."""
    rows = await connection.fetch(
        """
        SELECT * FROM drift_checks WHERE model_name = $1 AND model_version = $2
        ORDER BY id DESC LIMIT $3
        """,
        *(name, version, limit),
    )
    return [_check(row) for row in rows]


async def latest_checks(connection: Connection, name: str) -> list[DriftCheck]:
    """The newest look at each version."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT ON (model_version) * FROM drift_checks WHERE model_name = $1
        ORDER BY model_version, id DESC
        """,
        name,
    )
    return [_check(row) for row in rows]


async def last_check(connection: Connection, name: str, version: int) -> DriftSummary | None:
    """The newest look at a version, in short."""
    for check in await list_checks(connection, name, version, 1):
        return DriftSummary(
            id=check.id,
            status=check.status,
            checked_at=check.created_at,
            window=check.window,
            exposures=check.exposures,
            drifted=check.drifted,
            reason=check.reason,
        )
    return None


async def take_pending(connection: Connection, name: str, lease: timedelta) -> DriftCheck | None:
    """The newest look whose report is due, for one gateway to make it in so much time."""
    row = await connection.fetchrow(
        """
        UPDATE drift_checks SET report_due_at = now() + $2::interval WHERE id = (
            SELECT id FROM drift_checks
            WHERE report = 'pending' AND model_name = $1 AND report_due_at <= now()
            ORDER BY id DESC LIMIT 1 FOR UPDATE SKIP LOCKED
        ) RETURNING *
        """,
        *(name, lease),
    )
    return None if row is None else _check(row)


async def set_report_ready(connection: Connection, check_id: UUID) -> None:
    """Note that a report can be read."""
    await connection.execute(
        "UPDATE drift_checks SET report = 'ready', report_detail = NULL WHERE id = $1", check_id
    )


async def put_report_off(
    connection: Connection, check_id: UUID, pause: timedelta, detail: str
) -> None:
    """Note what keeps a report, and that it is due again after a pause."""
    await connection.execute(
        """
        UPDATE drift_checks SET report_due_at = now() + $2::interval, report_detail = $3
        WHERE id = $1
        """,
        *(check_id, pause, detail),
    )


def _check(row: Record) -> DriftCheck:
    found = msgspec.json.decode(row["result"], type=Found)
    since, until = row["since"], row["until"]
    ready = row["report"] == "ready"
    return DriftCheck(
        id=row["id"],
        model=VersionRef(name=row["model_name"], version=row["model_version"]),
        created_at=row["created_at"],
        window=Window(since=since, until=until, seconds=(until - since).total_seconds()),
        status=row["status"],
        false_alarms=FALSE_ALARMS,
        report=Report(
            status=row["report"],
            url=f"/drift/{row['id']}/report" if ready else None,
            detail=row["report_detail"],
        ),
        **msgspec.structs.asdict(found),
    )

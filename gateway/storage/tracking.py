"""The table `served_runs`: the MLflow run of each version that is served, and how far it is."""

from datetime import datetime
from typing import NamedTuple

from astrotriton.gateway.storage.database import Connection


class ServedRun(NamedTuple):
    """An MLflow run, and until when it has what was measured."""

    run_id: str
    logged_until: datetime


async def hold_tracking(connection: Connection, name: str, version: int) -> bool:
    """Keep other gateways from logging a version until the transaction ends; False if one does."""
    return bool(
        await connection.fetchval(
            "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))",
            f"tracking {name}:{version}",
        )
    )


async def measured_versions(connection: Connection, name: str, since: datetime) -> list[int]:
    """The versions that anything was measured of."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT model_version FROM performance WHERE model_name = $1 AND minute >= $2
        ORDER BY model_version
        """,
        *(name, since),
    )
    return [row["model_version"] for row in rows]


async def find_served_run(connection: Connection, name: str, version: int) -> ServedRun | None:
    """The run of a version; None before it has one."""
    row = await connection.fetchrow(
        """
        SELECT mlflow_run_id, logged_until FROM served_runs
        WHERE model_name = $1 AND model_version = $2
        """,
        *(name, version),
    )
    return None if row is None else ServedRun(*row)


async def set_served_run(connection: Connection, name: str, version: int, run: ServedRun) -> None:
    """Note the run of a version, and how far it is."""
    await connection.execute(
        """
        INSERT INTO served_runs (model_name, model_version, mlflow_run_id, logged_until)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (model_name, model_version) DO UPDATE
            SET mlflow_run_id = excluded.mlflow_run_id, logged_until = excluded.logged_until
        """,
        *(name, version, run.run_id, run.logged_until),
    )


async def find_minutes(
    connection: Connection, name: str, version: int, since: datetime, until: datetime, most: int
) -> list[datetime]:
    """The oldest minutes from one on that anything was measured in."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT minute FROM performance
        WHERE model_name = $1 AND model_version = $2 AND minute >= $3 AND minute < $4
        ORDER BY minute LIMIT $5
        """,
        *(name, version, since, until, most),
    )
    return [row["minute"] for row in rows]

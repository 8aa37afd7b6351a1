"""The tables `jobs` and `idempotency_keys`: runs that are under way, and what they answer for."""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from asyncpg import Record

from astrotriton.gateway.storage.database import Connection


async def insert_job(
    connection: Connection, run_id: UUID, caller: str, exposure_name: str | None
) -> None:
    """Add a run of a caller's that waits for its turn."""
    await connection.execute(
        "INSERT INTO jobs (id, status, caller, exposure_name) VALUES ($1, 'queued', $2, $3)",
        *(run_id, caller, exposure_name),
    )


async def find_job(connection: Connection, run_id: UUID) -> Record | None:
    """A run that was started in the background."""
    return await connection.fetchrow("SELECT * FROM jobs WHERE id = $1", run_id)


async def beat(connection: Connection, progress: dict[UUID, tuple[int, int]]) -> None:
    """Note that runs are being worked on, and how many tiles of how many are answered."""
    await connection.execute(
        """
        UPDATE jobs SET heartbeat_at = now(), done = new.done, of = new.of,
            status = CASE WHEN new.of > 0 THEN 'running' ELSE status END
        FROM unnest($1::uuid[], $2::int[], $3::int[]) AS new (id, done, of)
        WHERE jobs.id = new.id AND finished_at IS NULL
        """,
        list(progress),
        [done for done, _ in progress.values()],
        [of for _, of in progress.values()],
    )


async def complete_job(connection: Connection, run_id: UUID) -> bool:
    """Note that a run is stored; False if it has been given up before."""
    status = await connection.execute(
        """
        UPDATE jobs SET status = 'complete', finished_at = now(), done = of
        WHERE id = $1 AND finished_at IS NULL
        """,
        run_id,
    )
    return bool(status == "UPDATE 1")


async def fail_job(connection: Connection, run_id: UUID, problem: bytes) -> None:
    """Give a run up, and free its idempotency key, so that it can be asked for again."""
    await connection.execute(
        """
        WITH failed AS (
            UPDATE jobs SET status = 'failed', finished_at = now(), problem = $2
            WHERE id = $1 AND finished_at IS NULL RETURNING id
        ) DELETE FROM idempotency_keys WHERE run_id IN (SELECT id FROM failed)
        """,
        run_id,
        problem.decode(),
    )


async def find_failed(connection: Connection, run_ids: list[UUID]) -> list[UUID]:
    """Those of some runs that have been given up or cancelled."""
    rows = await connection.fetch(
        "SELECT id FROM jobs WHERE id = ANY ($1::uuid[]) AND status = 'failed'", run_ids
    )
    return [row["id"] for row in rows]


async def find_abandoned_jobs(connection: Connection, silence: timedelta) -> list[UUID]:
    """The runs that nobody has worked on for so long, out of other gateways' reach."""
    rows = await connection.fetch(
        """
        SELECT id FROM jobs WHERE finished_at IS NULL AND heartbeat_at < now() - $1::interval
        FOR UPDATE SKIP LOCKED
        """,
        silence,
    )
    return [row["id"] for row in rows]


async def find_key(connection: Connection, caller: str, key: str) -> tuple[str, UUID] | None:
    """The digest of the request that a caller used a key for, and its run."""
    row = await connection.fetchrow(
        "SELECT digest, run_id FROM idempotency_keys WHERE caller = $1 AND key = $2", caller, key
    )
    return None if row is None else (row["digest"], row["run_id"])


async def take_key(
    connection: Connection, caller: str, key: str, digest: str, run_id: UUID
) -> bool:
    """Use a key for a run; False if it is used already, once that is committed."""
    status = await connection.execute(
        """
        INSERT INTO idempotency_keys (caller, key, digest, run_id) VALUES ($1, $2, $3, $4)
        ON CONFLICT (caller, key) DO NOTHING
        """,
        caller,
        key,
        digest,
        run_id,
    )
    return bool(status == "INSERT 0 1")


async def take_places(
    connection: Connection, caller: str, key: str, digest: str, runs: Mapping[int, UUID]
) -> None:
    """Note which runs a key that was taken stands for, by their places in its request.

    No caller's own key has a blank in it.
    """
    await connection.executemany(
        "INSERT INTO idempotency_keys (caller, key, digest, run_id) VALUES ($1, $2, $3, $4)",
        [(caller, f"{key} {place}", digest, run_id) for place, run_id in runs.items()],
    )


async def find_places(connection: Connection, caller: str, key: str) -> dict[int, UUID]:
    """The runs that a key stands for, by their places."""
    rows = await connection.fetch(
        "SELECT key, run_id FROM idempotency_keys WHERE caller = $1 AND starts_with(key, $2)",
        caller,
        f"{key} ",
    )
    return {int(row["key"].rpartition(" ")[2]): row["run_id"] for row in rows}


async def forget(connection: Connection, keys: timedelta, events: timedelta) -> None:
    """Delete the keys and the published events that are older."""
    await connection.execute(
        "DELETE FROM idempotency_keys WHERE created_at < now() - $1::interval", keys
    )
    await connection.execute("DELETE FROM outbox WHERE published_at < now() - $1::interval", events)

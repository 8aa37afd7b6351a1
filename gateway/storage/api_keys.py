"""The table `api_keys`: who may use the service; of a key's secret only the hash is kept."""

from asyncpg import Record

from astrotriton.gateway.keys import NewKey
from astrotriton.gateway.storage.database import Connection


async def insert_key(connection: Connection, key: NewKey) -> None:
    """Add a key."""
    await connection.execute(
        """
        INSERT INTO api_keys (id, hash, name, scopes, rate_per_minute, concurrency, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        key.id,
        key.hash,
        key.name,
        key.scopes,
        key.rate_per_minute,
        key.concurrency,
        key.expires_at,
    )


async def find_key(connection: Connection, key_id: str) -> Record | None:
    """A key, with whether it may be used now; None if there is none of that id."""
    return await connection.fetchrow(
        """
        SELECT *, revoked_at IS NOT NULL AS revoked, expires_at <= now() AS expired
        FROM api_keys WHERE id = $1
        """,
        key_id,
    )


async def list_keys(connection: Connection) -> list[Record]:
    """Every key, the newest first."""
    return await connection.fetch(
        """
        SELECT id, name, scopes, created_at, expires_at, revoked_at FROM api_keys
        ORDER BY created_at DESC
        """
    )


async def revoke_key(connection: Connection, key_id: str) -> bool:
    """Revoke a key at once; False if there is none of that id."""
    status = await connection.execute(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1", key_id
    )
    return bool(status == "UPDATE 1")

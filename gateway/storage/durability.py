"""What PostgreSQL says of itself."""

from astrotriton.gateway.storage.database import Connection


async def read_settings(connection: Connection, names: list[str]) -> dict[str, str]:
    """Settings of the server as they hold for this connection, by name."""
    rows = await connection.fetch(
        "SELECT name, setting FROM pg_settings WHERE name = ANY($1)", names
    )
    return {row["name"]: row["setting"] for row in rows}

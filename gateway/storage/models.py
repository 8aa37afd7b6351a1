"""The table `models`: every model version that has answered."""

from uuid import UUID

from asyncpg import Record

from gateway.schemas import ModelRef
from gateway.storage.database import Connection


async def insert_model(
    connection: Connection, model_id: UUID, model: ModelRef, card: bytes, card_digest: str
) -> None:
    """Add a model version, unless it is there already."""
    await connection.execute(
        """
        INSERT INTO models (id, name, version, digest, card_digest, card)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (id) DO NOTHING
        """,
        model_id,
        model.name,
        model.version,
        model.digest,
        card_digest,
        card.decode(),
    )


async def find_models(connection: Connection) -> list[Record]:
    """Every version, the newest card of it first."""
    return await connection.fetch("SELECT * FROM models ORDER BY name, version, created_at DESC")

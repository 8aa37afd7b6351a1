"""The table `models`: every model version that has answered."""

from uuid import UUID

from asyncpg import Record

from astrotriton.gateway.storage.database import Connection
from astrotriton.wire.models import ModelRef


async def insert_model(
    connection: Connection, model_id: UUID, model: ModelRef, card: bytes, card_digest: str
) -> None:
    """Add a model version, unless it is there already."""
    # Asked first, so that not every run sends the card. Of two that add it at once, one may meet
    # the other in either of the table's unique indexes.
    if await connection.fetchval("SELECT true FROM models WHERE id = $1", model_id):
        return
    await connection.execute(
        """
        INSERT INTO models (id, name, version, digest, card_digest, card)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT DO NOTHING
        """,
        model_id,
        model.name,
        model.version,
        model.digest,
        card_digest,
        card.decode(),
    )


async def find_models(connection: Connection) -> list[Record]:
    """Every version, the newest card of it first, without the cards: `find_card` has them."""
    return await connection.fetch(
        """
        SELECT id, name, version, digest, card_digest, created_at FROM models
        ORDER BY name, version, created_at DESC
        """
    )


async def find_card(connection: Connection, model_id: UUID) -> str:
    """The card of a version that has answered, JSON."""
    card: str = await connection.fetchval("SELECT card FROM models WHERE id = $1", model_id)
    return card

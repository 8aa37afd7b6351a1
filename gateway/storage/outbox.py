"""The table `outbox`: events that were committed with what they tell of."""

from typing import NamedTuple
from uuid import UUID

from astrotriton.gateway.storage.database import Connection


class Waiting(NamedTuple):
    """An event not yet known to be published."""

    id: UUID
    subject: str
    event: str


async def insert_event(connection: Connection, event_id: UUID, subject: str, event: bytes) -> None:
    """Add an event, as structured CloudEvents JSON, to be published on a subject."""
    await connection.execute(
        "INSERT INTO outbox (id, subject, event) VALUES ($1, $2, $3)",
        event_id,
        subject,
        event.decode(),
    )


async def lock_waiting(connection: Connection, limit: int) -> list[Waiting]:
    """The oldest waiting events, out of other publishers' reach until the transaction ends."""
    rows = await connection.fetch(
        """
        SELECT id, subject, event FROM outbox WHERE published_at IS NULL
        ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
        """,
        limit,
    )
    return [Waiting(*row) for row in rows]


async def mark_published(connection: Connection, event_ids: list[UUID]) -> None:
    """Note that events are on the stream."""
    await connection.execute("UPDATE outbox SET published_at = now() WHERE id = ANY($1)", event_ids)


async def measure_waiting(connection: Connection) -> tuple[int, float]:
    """How many events wait, and for how many seconds the oldest has."""
    row = await connection.fetchrow(
        """
        SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8
        FROM outbox WHERE published_at IS NULL
        """
    )
    assert row is not None
    return int(row[0]), max(float(row[1]), 0.0)

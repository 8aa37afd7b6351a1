"""The table `outbox`: events that were committed with what they tell of."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from astrotriton.gateway.storage.database import Connection


class Waiting(NamedTuple):
    """An event not yet known to be published."""

    id: UUID
    subject: str
    event: str


class Published(NamedTuple):
    """An event that the stream acknowledged, and the place that it gave it."""

    sequence: int
    id: UUID


async def insert_event(connection: Connection, event_id: UUID, subject: str, event: bytes) -> None:
    """Add an event, as structured CloudEvents JSON, to be published on a subject."""
    await connection.execute(
        "INSERT INTO outbox (id, subject, event) VALUES ($1, $2, $3)",
        event_id,
        subject,
        event.decode(),
    )


async def insert_events(
    connection: Connection, subject: str, events: Iterable[tuple[UUID, bytes]]
) -> None:
    """Add several events of one subject."""
    await connection.executemany(
        "INSERT INTO outbox (id, subject, event) VALUES ($1, $2, $3)",
        [(event_id, subject, event.decode()) for event_id, event in events],
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


async def mark_published(
    connection: Connection, stream_made_at: datetime, published: dict[UUID, int]
) -> None:
    """Note that events are on the stream, and their sequence numbers there."""
    # The clock's time and not the transaction's, which began before the stream was asked.
    await connection.execute(
        """
        UPDATE outbox SET published_at = clock_timestamp(),
            stream_made_at = $1, stream_sequence = new.sequence
        FROM unnest($2::uuid[], $3::bigint[]) AS new (id, sequence) WHERE outbox.id = new.id
        """,
        stream_made_at,
        list(published),
        list(published.values()),
    )


_WAIT_AGAIN = "UPDATE outbox SET published_at = NULL, stream_made_at = NULL, stream_sequence = NULL"


async def mark_waiting_beyond(connection: Connection, stream_made_at: datetime, last: int) -> int:
    """Let events wait again that lie beyond the stream's end or on one before it, and count them.

    Those noted since the transaction began are left alone: they may lie beyond what was the end.
    """
    status = await connection.execute(
        f"""
        {_WAIT_AGAIN} WHERE published_at < now() AND (
            stream_made_at < $1 OR stream_made_at > $1
            OR (stream_made_at = $1 AND stream_sequence > $2)
        )
        """,
        stream_made_at,
        last,
    )
    return int(status.removeprefix("UPDATE "))


async def mark_waiting(connection: Connection, event_ids: list[UUID]) -> None:
    """Let published events wait again."""
    await connection.execute(f"{_WAIT_AGAIN} WHERE id = ANY($1)", event_ids)


async def list_published(
    connection: Connection, stream_made_at: datetime, below: int, limit: int
) -> list[Published]:
    """The last events of a stream before a place of it; none noted since the transaction began."""
    rows = await connection.fetch(
        """
        SELECT stream_sequence, id FROM outbox
        WHERE stream_made_at = $1 AND stream_sequence < $2 AND published_at < now()
        ORDER BY stream_sequence DESC LIMIT $3
        """,
        stream_made_at,
        below,
        limit,
    )
    return [Published(*row) for row in rows]


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

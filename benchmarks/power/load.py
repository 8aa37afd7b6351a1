"""What is asked of the servers while their power is cut, and what they answered."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import nats
from nats.js.api import ConsumerConfig
from nats.js.errors import NotFoundError
from obstore.store import ObjectStore
from uuid_utils.compat import uuid7

from astrotriton.gateway.backends.stream import STREAM
from astrotriton.gateway.storage.outbox import insert_event
from benchmarks.clients import asking

#: The subject of events that are no run's: they are cheap, so that there are many.
SUBJECT = "model.power"

_WRITERS = 4
_PAUSE = 0.01
_AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


@asynccontextmanager
async def events_written(database_url: str, committed: set[UUID]) -> AsyncIterator[None]:
    """Commit events into the outbox, each in a transaction, while the block runs.

    Parameters
    ----------
    committed
        Gets each event whose commit PostgreSQL has answered.
    """
    connections: dict[int, asyncpg.Connection[Any]] = {}

    async def write(number: int, turn: int) -> None:
        event_id = uuid7()
        try:
            async with asyncio.timeout(10.0):
                if number not in connections:
                    connections[number] = await asyncpg.connect(database_url)
                connection = connections[number]
                async with connection.transaction():
                    event = msgspec.json.encode({"id": str(event_id), "turn": turn})
                    await insert_event(connection, event_id, SUBJECT, event)
        except _AWAY:
            if (broken := connections.pop(number, None)) is not None:
                broken.terminate()
            await asyncio.sleep(0.2)
        else:
            committed.add(event_id)
            await asyncio.sleep(_PAUSE)

    async with asking(write, clients=_WRITERS):
        yield
    for connection in connections.values():
        connection.terminate()


@asynccontextmanager
async def objects_put(bucket: ObjectStore, answered: dict[str, bytes]) -> AsyncIterator[None]:
    """Put objects of many sizes into a bucket while the block runs.

    Parameters
    ----------
    answered
        Gets each object that the store has answered for, by its key.
    """

    async def put(number: int, turn: int) -> None:
        key = f"{random.getrandbits(64):016x}/{number}/{turn}"
        body = random.randbytes(random.choice((100, 5_000, 300_000, 6_000_000)))
        try:
            await bucket.put_async(key, body)
        except Exception:  # obstore's faults have no base of their own
            await asyncio.sleep(0.2)
        else:
            answered[key] = body

    async with asking(put, clients=3):
        yield


async def objects_lost(bucket: ObjectStore, answered: dict[str, bytes]) -> int:
    """How many of the objects are not there as they were put; these are forgotten."""
    lost = []
    for key, body in answered.items():
        try:
            kept = bytes(await (await bucket.get_async(key)).bytes_async())
        except Exception:  # as above
            kept = None
        if kept != body:
            lost.append(key)
    for key in lost:
        del answered[key]
    return len(lost)


@dataclass(slots=True)
class Consumer:
    """A durable consumer of the stream that is away while power is cut, and catches up afterwards.

    Attributes
    ----------
    seen
        How often each event arrived, by its id.
    """

    nats_url: str
    seen: dict[UUID, int] = field(default_factory=dict)

    async def catch_up(self) -> None:
        """Take all that the stream has for it."""
        client = await nats.connect(self.nats_url, error_cb=_ignore)
        try:
            stream = client.jetstream(timeout=10.0)
            subscription = await stream.pull_subscribe(">", durable="power", stream=STREAM)
            while True:
                try:
                    messages = await subscription.fetch(500, timeout=0.5)
                except TimeoutError:
                    if not (await subscription.consumer_info()).num_pending:
                        return
                    continue
                for message in messages:
                    event_id = UUID((message.headers or {})["Nats-Msg-Id"])
                    self.seen[event_id] = self.seen.get(event_id, 0) + 1
                    await message.ack()
                await client.flush()
        finally:
            await client.close()


async def on_stream(nats_url: str) -> set[UUID]:
    """The events that the stream holds: what a consumer finds that comes only now."""
    client = await nats.connect(nats_url, error_cb=_ignore)
    found: set[UUID] = set()
    try:
        stream = client.jetstream(timeout=10.0)
        with contextlib.suppress(NotFoundError):
            left = (await stream.stream_info(STREAM)).state.messages
            subscription = await stream.subscribe(
                ">",
                stream=STREAM,
                ordered_consumer=True,
                config=ConsumerConfig(headers_only=True),
            )
            while left > 0:
                message = await subscription.next_msg(timeout=10.0)
                found.add(UUID((message.headers or {})["Nats-Msg-Id"]))
                left = message.metadata.num_pending
    finally:
        await client.close()
    return found


async def _ignore(error: Exception) -> None:
    pass

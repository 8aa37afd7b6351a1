"""The publisher: from the outbox to NATS JetStream."""

import asyncio
import logging
from datetime import datetime
from uuid import UUID

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import Header

from astrotriton.gateway.backends.stream import STREAM, Retention, is_there, made_at, open_stream
from astrotriton.gateway.errors import DependencyError
from astrotriton.gateway.observability.metrics import OUTBOX_PUBLISHED, OUTBOX_REPEATED
from astrotriton.gateway.periodic import repeat
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.outbox import (
    list_published,
    lock_waiting,
    mark_published,
    mark_waiting,
    mark_waiting_beyond,
)

_BATCH = 100
_SHORTEST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_FORESEEN = (NatsError, OSError, TimeoutError, DependencyError)

_AS_IT_IS = Retention()

_log = logging.getLogger(__name__)


class StreamFellBackError(NatsError):
    """The stream has given an event a place that it had given to another before."""


class OutboxPublisher:
    """Publishes waiting events, oldest first, and notes those that the stream acknowledged.

    Several publishers may share an outbox. An event whose acknowledgement is lost is published
    again; the stream recognises it by its id. While NATS is away, events wait.

    A server may acknowledge what is not on its disk yet, and lose it with its power. So the outbox
    notes where on the stream an event came to lie, and each new connection begins with a look
    whether it still lies there. What does not is published again under the same id.

    Attributes
    ----------
    fault
        What keeps events from being published; None if nothing does.

    Parameters
    ----------
    database
        Where the outbox is.
    url
        The NATS server.
    timeout
        Seconds to wait for a connection or an acknowledgement.
    poll
        Seconds after which to look for events without being told.
    retention
        For how long the stream keeps events.
    """

    def __init__(
        self,
        database: Database,
        *,
        url: str,
        timeout: float,
        poll: float,
        retention: Retention = _AS_IT_IS,
    ) -> None:
        self._database = database
        self._url = url
        self._timeout = timeout
        self._poll = poll
        self._retention = retention
        self._wake = asyncio.Event()
        self._client: Client | None = None
        self._stream: JetStreamContext | None = None
        self._made_at: datetime | None = None
        self._last = 0
        self.fault: str | None = "not connected yet"

    def wake(self) -> None:
        """Say that an event was committed."""
        self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        try:
            await repeat(
                self._publish,
                self._poll,
                what="events wait in the outbox",
                log=_log,
                at_once=True,
                backoff=(_SHORTEST_PAUSE, _LONGEST_PAUSE),
                wake=self._wake,
                foreseen=_FORESEEN,
            )
        finally:
            await self._close()

    async def _publish(self) -> None:
        try:
            if self._client is not None and not self._client.is_connected:
                # With nothing to publish, nobody else notices that the server has gone.
                await self._close()
            if self._stream is None:
                self._client = await self._connect()
                stream = self._client.jetstream(timeout=self._timeout)
                await self.repeat_lost(stream)
                self._stream = stream
            while await self.publish_waiting(self._stream) == _BATCH:
                pass
        except Exception as error:
            self.fault = f"{type(error).__name__}: {error}"
            await self._close()
            raise
        self.fault = None

    async def _close(self) -> None:
        client, self._client, self._stream = self._client, None, None
        if client is not None:
            await client.close()

    async def repeat_lost(self, stream: JetStreamContext) -> int:
        """Let those published events wait again that the stream no longer has, and count them.

        To be called before the first event is published on a connection: others would take the
        places of those that are lost.

        Raises
        ------
        nats.errors.Error, OSError, TimeoutError, DependencyError
            If the stream cannot be made or read.
        """
        async with self._database.transaction() as connection:
            # What other publishers note from here on is newer than what the stream tells.
            info = await open_stream(stream, self._retention)
            self._made_at, self._last = made_at(info), info.state.last_seq
            lost = await mark_waiting_beyond(connection, self._made_at, self._last)
            below = self._last + 1
            while noted := await list_published(connection, self._made_at, below, _BATCH):
                gone = [one for one in noted if not await is_there(stream, info, *one)]
                if not gone:
                    break
                await mark_waiting(connection, [one.id for one in gone])
                lost += len(gone)
                below = noted[-1].sequence
        if lost:
            _log.warning(
                "the stream %s has lost %d events that it had acknowledged, its last is %d: they"
                " are published again; `sync_interval: always` in NATS keeps it from losing any",
                *(STREAM, lost, self._last),
            )
        OUTBOX_REPEATED.inc(lost)
        return lost

    async def publish_waiting(self, stream: JetStreamContext) -> int:
        """Publish the oldest waiting events, and say how many the stream acknowledged.

        Raises
        ------
        nats.errors.Error, OSError, TimeoutError
            If one was not acknowledged; those before it are noted as published all the same.
        """
        assert self._made_at is not None, "repeat_lost comes first"
        published: dict[UUID, int] = {}
        fault: Exception | None = None
        async with self._database.transaction() as connection:
            for waiting in await lock_waiting(connection, _BATCH):
                try:
                    acknowledged = await stream.publish(
                        waiting.subject,
                        waiting.event.encode(),
                        timeout=self._timeout,
                        stream=STREAM,
                        headers={
                            Header.MSG_ID: str(waiting.id),
                            "Content-Type": "application/cloudevents+json",
                        },
                    )
                except (NatsError, OSError, TimeoutError) as error:
                    fault = error
                    break
                published[waiting.id] = acknowledged.seq
                if not acknowledged.duplicate and acknowledged.seq <= self._last:
                    fault = StreamFellBackError(f"from {self._last} to {acknowledged.seq}")
                    break
                self._last = max(self._last, acknowledged.seq)
            await mark_published(connection, self._made_at, published)
        OUTBOX_PUBLISHED.inc(len(published))
        if fault is not None:
            raise fault
        return len(published)

    async def _connect(self) -> Client:
        # This class is the one that tries again, so the client does not.
        return await nats.connect(
            self._url,
            connect_timeout=self._timeout,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            error_cb=_log_client_error,
            name="astrotriton-gateway",
        )


async def _log_client_error(error: Exception) -> None:
    _log.debug("NATS client: %r", error)

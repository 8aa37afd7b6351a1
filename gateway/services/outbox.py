"""The publisher: from the outbox to NATS JetStream."""

import asyncio
import logging
from uuid import UUID

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import Header
from nats.js.errors import NotFoundError

from astrotriton.gateway.errors import DependencyError
from astrotriton.gateway.observability.metrics import OUTBOX_PUBLISHED
from astrotriton.gateway.periodic import repeat
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.outbox import lock_waiting, mark_published

STREAM = "ASTROTRITON"
SUBJECTS = ["detection.>", "model.>"]

_BATCH = 100
_SHORTEST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_FORESEEN = (NatsError, OSError, TimeoutError, DependencyError)

_log = logging.getLogger(__name__)


class OutboxPublisher:
    """Publishes waiting events, oldest first, and notes those that the stream acknowledged.

    Several publishers may share an outbox. An event whose acknowledgement is lost is published
    again; the stream recognises it by its id. While NATS is away, events wait.

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
    """

    def __init__(self, database: Database, *, url: str, timeout: float, poll: float) -> None:
        self._database = database
        self._url = url
        self._timeout = timeout
        self._poll = poll
        self._wake = asyncio.Event()
        self._client: Client | None = None
        self._stream: JetStreamContext | None = None
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
            if self._stream is None:
                self._client = await self._connect()
                self._stream = await self._open_stream(self._client)
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

    async def publish_waiting(self, stream: JetStreamContext) -> int:
        """Publish the oldest waiting events, and say how many the stream acknowledged.

        Raises
        ------
        nats.errors.Error, OSError, TimeoutError
            If one was not acknowledged; those before it are noted as published all the same.
        """
        published: list[UUID] = []
        fault: Exception | None = None
        async with self._database.transaction() as connection:
            for waiting in await lock_waiting(connection, _BATCH):
                try:
                    await stream.publish(
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
                published.append(waiting.id)
            await mark_published(connection, published)
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

    async def _open_stream(self, client: Client) -> JetStreamContext:
        """The stream, made if it is missing; of an operator's own only subjects are added to."""
        stream = client.jetstream(timeout=self._timeout)
        try:
            config = (await stream.stream_info(STREAM)).config
        except NotFoundError:
            await stream.add_stream(name=STREAM, subjects=SUBJECTS)
        else:
            missing = [name for name in SUBJECTS if name not in (config.subjects or ())]
            if missing:
                config.subjects = [*(config.subjects or ()), *missing]
                await stream.update_stream(config)
        return stream


async def _log_client_error(error: Exception) -> None:
    _log.debug("NATS client: %r", error)

"""Those who follow along: detections in the order of commits, as they are stored."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn
from uuid import UUID

from astrotriton.gateway.errors import BusyError, LimitError, RetryLaterError
from astrotriton.gateway.observability.metrics import STREAMS
from astrotriton.gateway.periodic import repeat
from astrotriton.gateway.services.detections import DetectionService
from astrotriton.gateway.storage.listing import Filter
from astrotriton.wire.detections import DetectionPage

#: The cursor before the first detection that there is.
BEGINNING = UUID(int=0)

_PAGE = 500  # detections that one look takes at most, and that a stream holds
_AGAIN = 2.0  # seconds after a look of a stream that PostgreSQL did not answer
_LONGEST = 10.0  # seconds between two looks at how far the commits are, while it does not answer

_log = logging.getLogger(__name__)


class FollowService:
    """Gives each who follows along every new detection once.

    How far the order of commits has come is asked once for all of them, and a connection to
    PostgreSQL is held only while it is asked: a stream that waits, for new detections or for a
    caller who reads slowly, holds none.

    Parameters
    ----------
    detections
        Finds them.
    poll
        Seconds between two looks for new ones.
    heartbeat
        Seconds after which a stream says that there is nothing new.
    longest
        Seconds after which a stream ends.
    most, most_of_one
        Streams at a time, and those of one caller.
    """

    def __init__(
        self,
        detections: DetectionService,
        *,
        poll: float,
        heartbeat: float,
        longest: float,
        most: int,
        most_of_one: int,
    ) -> None:
        self._detections = detections
        self._poll = poll
        self._heartbeat = heartbeat
        self._longest = longest
        self._most = most
        self._most_of_one = most_of_one
        self._held: Counter[str] = Counter()
        self._frontier: UUID | None = None
        self._moved = asyncio.Event()
        self._closed = False

    async def run(self) -> NoReturn:
        """Look how far the order of commits is, while somebody follows it, until cancelled."""
        await repeat(
            self._look,
            self._poll,
            what="those who follow along wait",
            log=_log,
            backoff=(self._poll, max(self._poll, _LONGEST)),
            foreseen=(RetryLaterError,),
        )

    def close(self) -> None:
        """End every stream, and begin none: the gateway is shutting down."""
        self._closed = True
        self._moved.set()

    @contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """Count a caller's stream while the block runs.

        Raises
        ------
        LimitError
            If the caller has as many as one may have.
        BusyError
            If there are as many as there may be, or the gateway is shutting down.
        """
        if self._closed:
            raise BusyError("the gateway is shutting down: come back with the last id that you saw")
        if self._held[caller] >= self._most_of_one:
            raise LimitError(f"you follow {self._held[caller]} streams: end one of them", 5)
        if self._held.total() >= self._most:
            raise BusyError(f"{self._most} streams are followed, and no more can be")
        self._held[caller] += 1
        STREAMS.inc()
        try:
            yield
        finally:
            STREAMS.dec()
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]

    async def begin(self, wanted: Filter, after: UUID | None) -> DetectionPage:
        """The first page of a stream; its ``next`` is the cursor behind it.

        Parameters
        ----------
        wanted
            What is looked for.
        after
            The detection that was seen last, or `BEGINNING`; None: begin with what comes now.

        Raises
        ------
        InputError
            If no detection has the id of ``after``.
        """
        if after is None:
            now = await self._detections.frontier()
            return DetectionPage(detections=[], next=now or BEGINNING)
        return await self._find(wanted, after)

    async def follow(
        self, wanted: Filter, first: DetectionPage
    ) -> AsyncGenerator[DetectionPage, None]:
        """Pages of detections from the first one on, each as soon as there is something on it.

        An empty page is a heartbeat; its ``next`` is the cursor all the same. While PostgreSQL does
        not answer there are heartbeats alone. It ends after its longest time, and when the gateway
        shuts down.

        Parameters
        ----------
        wanted, first
            What is looked for, and what `begin` has found.
        """
        end = time.monotonic() + self._longest
        page, after = first, first.next or BEGINNING
        yield page
        due, look = time.monotonic() + self._heartbeat, True
        moved = asyncio.Event()
        while not self._closed and time.monotonic() < end:
            if not look:
                await _wait(moved, min(due, end))
            if look or moved.is_set():
                # Taken before the look: what is committed during it is looked for again.
                moved, look = self._moved, False
                try:
                    page = await self._find(wanted, after)
                except RetryLaterError:
                    look = True
                    await _wait(self._moved, min(time.monotonic() + _AGAIN, end))
                else:
                    after, look = page.next or BEGINNING, len(page.detections) == _PAGE
                    if page.detections:
                        yield page
                        due = time.monotonic() + self._heartbeat
            if time.monotonic() >= due:
                yield DetectionPage(detections=[], next=after)
                due = time.monotonic() + self._heartbeat

    async def _find(self, wanted: Filter, after: UUID) -> DetectionPage:
        begin = None if after == BEGINNING else after
        page = await self._detections.find(wanted, begin, _PAGE, "committed")
        return DetectionPage(detections=page.detections, next=page.next or BEGINNING)

    async def _look(self) -> None:
        if not self._held:
            return
        frontier = await self._detections.frontier()
        if frontier != self._frontier:
            self._frontier = frontier
            self._moved.set()
            if not self._closed:
                self._moved = asyncio.Event()


async def _wait(event: asyncio.Event, until: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(until - time.monotonic()):
            await event.wait()

"""How many requests, and how many bytes of theirs, are worked on at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from astrotriton.gateway.errors import BusyError
from astrotriton.gateway.observability.metrics import HELD, INSIDE, stage


class Admission:
    """Lets a bounded number in, of which a smaller number work at a time; the rest is turned away.

    A request holds its place while its body arrives, but takes its turn only then: a slow upload
    keeps nobody from working.

    Parameters
    ----------
    running
        Most that work at a time.
    waiting
        Most that wait for their turn, or for their body.
    most_bytes
        Most bytes that all of them may hold.
    """

    def __init__(self, running: int, waiting: int, most_bytes: int) -> None:
        self._turns = asyncio.Semaphore(running)
        self._running = running
        self._room = running + waiting
        self._most_bytes = most_bytes
        self._held = 0
        self.inside = 0

    @property
    def crowded(self) -> bool:
        """Whether more are inside than can work."""
        return self.inside > self._running

    @asynccontextmanager
    async def enter(self) -> AsyncIterator["Place"]:
        """Hold a place while the block runs.

        Raises
        ------
        BusyError
            If there is none.
        """
        if self.inside >= self._room:
            raise BusyError(f"{self.inside} exposures are being scored or waiting; try again later")
        self.inside += 1
        INSIDE.inc()
        place = Place(self._turns, self._reserve)
        try:
            yield place
        finally:
            self._reserve(-place.held)
            self.inside -= 1
            INSIDE.dec()

    @contextmanager
    def holding(self, count: int) -> Iterator[None]:
        """Hold so many bytes while the block runs, without a place.

        Raises
        ------
        BusyError
            If there would be too many.
        """
        self._reserve(count)
        try:
            yield
        finally:
            self._reserve(-count)

    def _reserve(self, count: int) -> None:
        if self._held + count > self._most_bytes:
            raise BusyError(
                f"exposures of {self._held} bytes are being scored or waiting, which leaves no "
                f"room for {count}; try again later"
            )
        self._held += count
        HELD.set(self._held)


class Place:
    """A place inside; from it, a turn to work can be waited for.

    Attributes
    ----------
    held
        Bytes that it holds.
    """

    def __init__(self, turns: asyncio.Semaphore, reserve: Callable[[int], None]) -> None:
        self._turns = turns
        self._reserve = reserve
        self.held = 0

    def hold(self, count: int) -> None:
        """Hold so many more bytes, until the place is left.

        Raises
        ------
        BusyError
            If all places together would hold too many.
        """
        self._reserve(count)
        self.held += count

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and keep it while the block runs."""
        with stage("wait"):
            await self._turns.acquire()
        try:
            yield
        finally:
            self._turns.release()

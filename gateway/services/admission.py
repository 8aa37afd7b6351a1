"""How many requests are worked on at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.errors import BusyError
from gateway.metrics import INSIDE, stage


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
    """

    def __init__(self, running: int, waiting: int) -> None:
        self._turns = asyncio.Semaphore(running)
        self._running = running
        self._room = running + waiting
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
        try:
            yield Place(self._turns)
        finally:
            self.inside -= 1
            INSIDE.dec()


class Place:
    """A place inside; from it, a turn to work can be waited for."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and keep it while the block runs."""
        with stage("wait"):
            await self._turns.acquire()
        try:
            yield
        finally:
            self._turns.release()

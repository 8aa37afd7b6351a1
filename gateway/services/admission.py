"""How many requests are worked on at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.errors import BusyError


class Admission:
    """Lets a bounded number in, lets a bounded number wait, and turns the rest away.

    Parameters
    ----------
    running
        Most at a time.
    waiting
        Most that wait for their turn.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self._turns = asyncio.Semaphore(running)
        self._room = running + waiting
        self._inside = 0

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Wait for a turn, and keep it while the block runs.

        Raises
        ------
        BusyError
            If as many wait as may.
        """
        if self._inside >= self._room:
            raise BusyError(
                f"{self._inside} exposures are being scored or waiting; try again later"
            )
        self._inside += 1
        try:
            async with self._turns:
                yield
        finally:
            self._inside -= 1

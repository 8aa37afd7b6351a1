"""How many requests, and how many bytes of theirs, are worked on at a time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from astrotriton.gateway.errors import BusyError, LimitError
from astrotriton.gateway.observability.metrics import HELD, INSIDE, stage

# A body of more bytes than these needs a place before the rest of it comes, so that many large ones
# are not sent in vain; smaller ones, and those that stand still, keep nobody out.
_LARGE = 1024 * 1024


class Admission:
    """Lets a bounded number in, of which a smaller number work at a time; the rest is turned away.

    A request's bytes are held as they arrive. It takes a place once it is large or complete, and
    its turn only when it is complete: a slow upload keeps nobody from working.

    Parameters
    ----------
    running
        Most that work at a time.
    waiting
        Most that wait for their turn, or for the rest of a large body.
    most_bytes
        Most bytes that all of them may hold.
    most_of_one
        Those of them that one caller's may hold; None: all.
    """

    def __init__(
        self, running: int, waiting: int, most_bytes: int, most_of_one: int | None = None
    ) -> None:
        self._turns = asyncio.Semaphore(running)
        self._running = running
        self._room = running + waiting
        self._most_bytes = most_bytes
        self._most_of_one = most_bytes if most_of_one is None else most_of_one
        self._held = 0
        self._held_of: Counter[str] = Counter()
        self.inside = 0

    @property
    def crowded(self) -> bool:
        """Whether more are inside than can work."""
        return self.inside > self._running

    @asynccontextmanager
    async def arrive(self, caller: str = "") -> AsyncIterator["Place"]:
        """Let a request arrive while the block runs, and give it a place when it needs one.

        Parameters
        ----------
        caller
            Whose share its bytes are of.

        Raises
        ------
        BusyError
            If there is no place even now.
        """
        self._check_room()
        place = Place(self, caller)
        try:
            yield place
        finally:
            self._release(caller, place.held)
            if place.taken:
                self.inside -= 1
                INSIDE.dec()

    @asynccontextmanager
    async def enter(self, caller: str = "") -> AsyncIterator["Place"]:
        """Hold a place while the block runs.

        Raises
        ------
        BusyError
            If there is none.
        """
        async with self.arrive(caller) as place:
            place.take()
            yield place

    @contextmanager
    def holding(self, count: int) -> Iterator[None]:
        """Hold so many bytes while the block runs, without a place, and as nobody's share.

        Raises
        ------
        BusyError
            If there would be too many.
        """
        self._check_bytes(count)
        self._held += count
        HELD.set(self._held)
        try:
            yield
        finally:
            self._held -= count
            HELD.set(self._held)

    def _check_room(self) -> None:
        if self.inside >= self._room:
            raise BusyError(f"{self.inside} exposures are being scored or waiting; try again later")

    def _check_bytes(self, count: int) -> None:
        if self._held + count > self._most_bytes:
            raise BusyError(
                f"exposures of {self._held} bytes are being scored or waiting, which leaves no "
                f"room for {count}; try again later"
            )

    def _take(self) -> None:
        self._check_room()
        self.inside += 1
        INSIDE.inc()

    def _hold(self, caller: str, count: int) -> None:
        self._check_bytes(count)
        theirs = self._held_of[caller]
        if theirs + count > self._most_of_one:
            raise LimitError(
                f"exposures of {theirs} bytes of yours are being scored or waiting, at most "
                f"{self._most_of_one} may be",
                BusyError.retry_after,
            )
        self._held_of[caller] += count
        self._held += count
        HELD.set(self._held)

    def _release(self, caller: str, count: int) -> None:
        self._held_of[caller] -= count
        if not self._held_of[caller]:
            del self._held_of[caller]
        self._held -= count
        HELD.set(self._held)


class Place:
    """A request that arrives, and its place once it has one; from it, a turn can be waited for.

    Attributes
    ----------
    held
        Bytes that it holds.
    taken
        Whether it has its place.
    """

    def __init__(self, admission: Admission, caller: str) -> None:
        self._admission = admission
        self._caller = caller
        self.held = 0
        self.taken = False

    def hold(self, count: int) -> None:
        """Hold so many more bytes, until the place is left.

        Raises
        ------
        BusyError
            If all requests together would hold too many, or there is no place for a large one.
        LimitError
            If those of its caller would.
        """
        self._admission._hold(self._caller, count)
        self.held += count
        if self.held > _LARGE:
            self.take()

    def take(self) -> None:
        """Take a place, if it has none yet.

        Raises
        ------
        BusyError
            If there is none.
        """
        if not self.taken:
            self._admission._take()
            self.taken = True

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and keep it while the block runs."""
        with stage("wait"):
            await self._admission._turns.acquire()
        try:
            yield
        finally:
            self._admission._turns.release()

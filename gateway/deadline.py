"""How long a caller waits: one deadline for all that is done for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from astrotriton.gateway.errors import DeadlineError

_ends: ContextVar[float | None] = ContextVar("deadline", default=None)


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Give up what the block does after so many seconds.

    Raises
    ------
    DeadlineError
        If the time is over.
    """
    ends = asyncio.get_running_loop().time() + seconds
    token = _ends.set(ends)
    clock = asyncio.timeout_at(ends)
    try:
        async with clock:
            yield
    except TimeoutError as error:
        if not clock.expired():
            raise
        raise DeadlineError(f"not done within {seconds:g} s, and so given up") from error
    finally:
        _ends.reset(token)


def remaining(limit: float) -> float:
    """Seconds until the deadline, at most ``limit`` and a little above 0."""
    ends = _ends.get()
    if ends is None:
        return limit
    return min(limit, max(ends - asyncio.get_running_loop().time(), 0.001))

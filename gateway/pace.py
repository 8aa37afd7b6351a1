"""How fast something must arrive."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from astrotriton.gateway.errors import UploadTimeoutError

_Came = TypeVar("_Came")


class Pace:
    """The time that a caller has in hand for what it sends.

    Waiting uses it up, and each ``rate`` bytes that come add a second to it again. There is never
    more in hand than at first, so that nothing may stand still for longer than that.

    Parameters
    ----------
    rate
        Bytes a second.
    grace
        Seconds in hand at first.
    """

    def __init__(self, rate: float, grace: float) -> None:
        self._rate = rate
        self._grace = grace
        self._left = grace

    def renew(self) -> None:
        """Give the caller as much in hand as at first."""
        self._left = self._grace

    async def wait(self, coming: Awaitable[_Came], size: Callable[[_Came], int]) -> _Came:
        """What comes next.

        Parameters
        ----------
        coming
            Waits for it.
        size
            Tells how many bytes it has.

        Raises
        ------
        UploadTimeoutError
            If it comes too slowly.
        """
        began = time.monotonic()
        clock = asyncio.timeout(max(self._left, 0.0))
        try:
            async with clock:
                came = await coming
        except TimeoutError as error:
            if not clock.expired():
                raise
            raise UploadTimeoutError(
                f"the body stood still, or came with under {self._rate:g} bytes a second"
            ) from error
        left = self._left - (time.monotonic() - began) + size(came) / self._rate
        self._left = min(left, self._grace)
        return came

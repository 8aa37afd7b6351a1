"""What is done again and again, or for several at once, while the gateway runs."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from logging import Logger
from typing import Any, Generic, NoReturn, TypeVar

T = TypeVar("T")


async def repeat(
    do: Callable[[], Awaitable[object]],
    every: float,
    *,
    what: str,
    log: Logger,
    at_once: bool = False,
    backoff: tuple[float, float] | None = None,
    wake: asyncio.Event | None = None,
    foreseen: tuple[type[Exception], ...] = (Exception,),
) -> NoReturn:
    """Do something until cancelled. What goes wrong is logged, and the next turn may be better.

    Parameters
    ----------
    do
        One turn.
    every
        Seconds between two turns.
    what
        What a fault means, for the log, such as ``events wait``.
    log
        Where that goes.
    at_once
        Whether the first turn comes before the first pause.
    backoff
        Seconds after a first fault, and the most after several, each pause being twice the one
        before; nothing wakes from these. None: as between any turns.
    wake
        Ends a pause when it is set; cleared before each turn.
    foreseen
        Faults that are told without where they came from.
    """
    pause, woken_by = 0.0 if at_once else every, wake
    faults = 0
    while True:
        await _pause(pause, woken_by)
        if wake is not None:
            wake.clear()
        try:
            await do()
        except Exception as error:  # whatever it is
            if backoff is None:
                pause = every
            else:
                shortest, longest = backoff
                pause, woken_by = min(shortest * 2**faults, longest), None
            faults = min(faults + 1, 32)
            log.warning(
                "%s, trying again in %g s: %s: %s",
                *(what, pause, type(error).__name__, error),
                exc_info=not isinstance(error, foreseen),
            )
        else:
            pause, woken_by, faults = every, wake, 0


async def _pause(seconds: float, wake: asyncio.Event | None) -> None:
    if wake is None:
        await asyncio.sleep(seconds)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()


async def work_off(
    queue: asyncio.Queue[T],
    do: Callable[[T], Awaitable[None]],
    failed: Callable[[T, Exception], None],
) -> NoReturn:
    """Take one thing after the other from a queue until cancelled.

    Parameters
    ----------
    queue
        Its `join` waits until the last one is done with.
    do
        Deals with one.
    failed
        Told what went wrong with one; the next is taken all the same.
    """
    while True:
        item = await queue.get()
        try:
            await do(item)
        except Exception as error:  # whatever it is
            failed(item, error)
        finally:
            queue.task_done()


class Shared(Generic[T]):
    """Does something once for all who want it meanwhile; who gives up waiting does not end it.

    Parameters
    ----------
    do
        What is done.
    name
        Of its task.
    """

    def __init__(self, do: Callable[[], Coroutine[Any, Any, T]], name: str) -> None:
        self._do = do
        self._name = name
        self._task: asyncio.Task[T] | None = None

    @property
    def under_way(self) -> bool:
        """Whether somebody has begun it, and it has not ended."""
        return self._task is not None

    async def get(self, patience: float | None = None) -> T:
        """What comes of it, begun now unless it is under way.

        Parameters
        ----------
        patience
            Seconds to wait; None: as long as it takes.

        Raises
        ------
        TimeoutError
            If it takes longer. It goes on.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._do(), name=self._name)
            self._task.add_done_callback(self._ended)
        task = self._task
        done, _ = await asyncio.wait({task}, timeout=patience)
        if not done:
            raise TimeoutError
        return task.result()

    async def aclose(self) -> None:
        """End it, and wait until it has ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _ended(self, task: asyncio.Task[T]) -> None:
        self._task = None


class Seldom:
    """Does something in turns that come more often than it needs to be done.

    Parameters
    ----------
    seconds
        Between two times that it went well.
    clock
        Tells the time, seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._done_at: float | None = None

    async def do(self, do: Callable[[], Awaitable[object]]) -> None:
        """Do it, if it is time; if it fails, the next turn tries again."""
        now = self._clock()
        if self._done_at is None or now - self._done_at >= self._seconds:
            await do()
            self._done_at = now

"""Clients that never stop asking while something else goes on."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

#: Called with the client's number and with how many requests it has sent before.
Ask = Callable[[int, int], Awaitable[None]]

CLIENTS = 4


@asynccontextmanager
async def asking(ask: Ask, clients: int = CLIENTS) -> AsyncIterator[None]:
    """Keep a few clients asking, each one request after the other, while the block runs.

    Their last requests are waited for. What `ask` raises ends the block.
    """
    done = asyncio.Event()

    async def client(number: int) -> None:
        for turn in itertools.count():
            if done.is_set():
                return
            await ask(number, turn)

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(client(number))
            yield
            done.set()
    except BaseExceptionGroup as faults:
        # The first fault says what went wrong, in the block or at a client.
        raise faults.exceptions[0] from None


@contextmanager
def asking_meanwhile(ask: Ask, clients: int = CLIENTS) -> Iterator[None]:
    """Do what `asking` does beside a block that is not asynchronous, in a thread of its own.

    What `ask` raises comes when the block ends.
    """
    done = threading.Event()

    async def run() -> None:
        async with asking(ask, clients):
            await asyncio.to_thread(done.wait)

    with ThreadPoolExecutor(1, thread_name_prefix="clients") as thread:
        ended = thread.submit(asyncio.run, run())
        try:
            yield
        finally:
            done.set()
        ended.result()

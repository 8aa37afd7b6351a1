"""Clients that never stop asking, and what tests wait for meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tritonclient.grpc.aio import InferenceServerClient

from benchmarks.clients import CLIENTS, asking
from benchmarks.faults import exposure
from tests.integration.gateway_parts import NAME


@asynccontextmanager
async def load(
    ask: Callable[[str, bytes], Awaitable[None]], name: str = "load"
) -> AsyncIterator[None]:
    """Keep a few clients asking, one exposure after the other, while the block runs."""
    async with asking(lambda number, turn: ask(f"{name}-{number}-{turn}", exposure(turn)), CLIENTS):
        yield


@asynccontextmanager
async def looking(look: Callable[[], Awaitable[None]], pause: float) -> AsyncIterator[None]:
    """Keep looking, with so many seconds between, while the block runs."""

    async def keep_looking() -> None:
        while True:
            await look()
            await asyncio.sleep(pause)

    task = asyncio.create_task(keep_looking())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool], patience: float) -> None:
    """Wait until something is so, and so many seconds at most."""
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(0.05)


async def tiles_of(triton: str, name: str = NAME) -> int:
    """The tiles of a model that the Triton at an address has answered since it started."""
    async with InferenceServerClient(triton) as client:
        statistics = await client.get_inference_statistics(name)
    return sum(model.inference_count for model in statistics.model_stats)

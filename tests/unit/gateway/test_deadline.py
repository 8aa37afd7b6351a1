"""One deadline for all that is done for a caller."""

import asyncio

import pytest

from astrotriton.gateway.deadline import deadline, remaining
from astrotriton.gateway.errors import DeadlineError


async def test_what_takes_longer_is_given_up():
    with pytest.raises(DeadlineError):
        async with deadline(0.01):
            await asyncio.sleep(60)


async def test_a_timeout_of_something_else_stays_what_it_is():
    with pytest.raises(TimeoutError):
        async with deadline(60):
            raise TimeoutError("of another")


async def test_tasks_know_what_remains():
    assert remaining(5.0) == 5.0
    async with deadline(1.0):
        async with asyncio.TaskGroup() as group:
            left = group.create_task(asyncio.to_thread(lambda: None))
            seen = group.create_task(_remaining())
        assert left.done()
        assert 0.0 < seen.result() <= 1.0
        assert remaining(0.5) == 0.5
    assert remaining(5.0) == 5.0


async def _remaining() -> float:
    return remaining(5.0)

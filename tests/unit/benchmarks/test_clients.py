"""Clients that never stop asking: each goes on by itself, and the last requests are waited for."""

import asyncio
import threading

import pytest

from benchmarks.clients import asking, asking_meanwhile


class Served:
    """Counts what it is asked, and may fail."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.answered = 0
        self.fault: Exception | None = None
        self.enough = threading.Event()

    async def __call__(self, number: int, turn: int) -> None:
        self.asked.append((number, turn))
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        self.answered += 1
        if self.answered >= 30:
            self.enough.set()


async def test_each_client_asks_in_turn_and_is_waited_for():
    served = Served()
    async with asking(served, clients=3), asyncio.timeout(30):
        while not served.enough.is_set():
            await asyncio.sleep(0)
    assert served.answered == len(served.asked)
    for number in range(3):
        turns = [turn for client, turn in served.asked if client == number]
        assert turns == list(range(len(turns)))
        assert len(turns) >= 5


async def test_a_client_that_fails_ends_the_block():
    served = Served()
    served.fault = ValueError("no such exposure")
    with pytest.raises(ValueError, match="no such exposure"):
        async with asking(served):
            await asyncio.Event().wait()


async def test_a_fault_of_the_block_comes_through():
    with pytest.raises(AssertionError, match="of the block"):
        async with asking(Served()):
            raise AssertionError("of the block")


def test_they_ask_beside_a_block_that_waits():
    served = Served()
    with asking_meanwhile(served, clients=2):
        assert served.enough.wait(30)
    assert served.answered == len(served.asked)
    assert {number for number, _ in served.asked} == {0, 1}
    served.fault = ValueError("no such exposure")
    with pytest.raises(ValueError, match="no such exposure"), asking_meanwhile(served):
        pass

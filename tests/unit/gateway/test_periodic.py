"""What is done again and again: no fault ends it, and pauses are as they were asked for."""

import asyncio
import logging

import pytest

from astrotriton.gateway import periodic
from astrotriton.gateway.periodic import Seldom, repeat, work_off

LOG = logging.getLogger("astrotriton.gateway.of_the_tests")


class Turns:
    """Fails as often as it is told, and ends the loop in the end."""

    def __init__(self, faults: list[Exception | None]) -> None:
        self.faults = faults
        self.done = 0

    async def __call__(self) -> None:
        if self.done == len(self.faults):
            raise asyncio.CancelledError
        self.done += 1
        if (fault := self.faults[self.done - 1]) is not None:
            raise fault


@pytest.fixture
def pauses(monkeypatch):
    """The pauses that were made, without making them."""
    made: list[tuple[float, bool]] = []

    async def pause(seconds, wake):
        made.append((seconds, wake is not None))

    monkeypatch.setattr(periodic, "_pause", pause)
    return made


async def turned(turns: Turns, every: float, **options) -> None:
    with pytest.raises(asyncio.CancelledError):
        await repeat(turns, every, what="it waits", log=LOG, **options)
    assert turns.done == len(turns.faults)


async def test_a_fault_ends_nothing_and_is_told(pauses, caplog):
    await turned(Turns([None, OSError("away"), None]), 5.0)
    assert pauses == [(5.0, False)] * 4
    (record,) = caplog.records
    assert record.getMessage() == "it waits, trying again in 5 s: OSError: away"
    assert not record.exc_info


async def test_a_fault_that_nobody_foresaw_is_told_with_its_place(pauses, caplog):
    await turned(Turns([ValueError("?"), OSError("away")]), 5.0, foreseen=(OSError,))
    assert [bool(record.exc_info) for record in caplog.records] == [True, False]


async def test_pauses_grow_with_the_faults_and_shrink_when_it_works(pauses):
    away = OSError("away")
    wake = asyncio.Event()
    await turned(
        Turns([None, away, away, away, away, None, away]),
        5.0,
        at_once=True,
        backoff=(0.5, 3.0),
        wake=wake,
    )
    assert [seconds for seconds, _ in pauses] == [0.0, 5.0, 0.5, 1.0, 2.0, 3.0, 5.0, 0.5]
    # Whoever wants an answer does not make a server answer that is away.
    assert [woken for _, woken in pauses] == [True, True, *[False] * 4, True, False]


async def test_it_is_woken_and_what_comes_meanwhile_wakes_it_again():
    wake, turns = asyncio.Event(), []

    async def do() -> None:
        turns.append(wake.is_set())
        if len(turns) == 1:
            wake.set()

    task = asyncio.create_task(repeat(do, 3600.0, what="-", log=LOG, wake=wake))
    await asyncio.sleep(0)
    assert turns == []
    wake.set()
    async with asyncio.timeout(10):
        while len(turns) < 2:
            await asyncio.sleep(0)
    assert turns == [False, False]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_queue_is_worked_off_whatever_fails():
    queue: asyncio.Queue[int] = asyncio.Queue()
    done, failed = [], []

    async def do(number: int) -> None:
        if number == 2:
            raise ValueError("not this one")
        done.append(number)

    task = asyncio.create_task(
        work_off(queue, do, lambda number, error: failed.append((number, str(error))))
    )
    for number in (1, 2, 3):
        queue.put_nowait(number)
    async with asyncio.timeout(10):
        await queue.join()
    task.cancel()
    assert done == [1, 3]
    assert failed == [(2, "not this one")]


async def test_what_is_done_seldom_is_tried_again_if_it_fails():
    now, faults = 0.0, [OSError("away"), None, None]
    seldom, turns = Seldom(3600.0, lambda: now), Turns([*faults])
    with pytest.raises(OSError, match="away"):
        await seldom.do(turns)
    await seldom.do(turns)
    now = 3599.0
    await seldom.do(turns)
    assert turns.done == 2
    now = 3600.0
    await seldom.do(turns)
    assert turns.done == 3

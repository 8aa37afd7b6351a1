"""How many get in."""

import asyncio

import pytest

from astrotriton.gateway.errors import BusyError, LimitError
from astrotriton.gateway.services.admission import Admission


async def test_some_run_some_wait_and_the_rest_are_turned_away():
    admission = Admission(running=2, waiting=1, most_bytes=0)
    leave = asyncio.Event()
    inside = 0

    async def visit() -> None:
        nonlocal inside
        async with admission.enter() as place, place.turn():
            inside += 1
            await leave.wait()

    visitors = [asyncio.create_task(visit()) for _ in range(3)]
    await asyncio.sleep(0)
    assert inside == 2
    with pytest.raises(BusyError):
        async with admission.enter():
            pass
    leave.set()
    await asyncio.gather(*visitors)
    assert inside == 3


async def test_one_that_fails_or_leaves_makes_room():
    admission = Admission(running=1, waiting=0, most_bytes=0)
    with pytest.raises(ValueError, match="oops"):
        async with admission.enter():
            raise ValueError("oops")
    async with admission.enter():
        pass


async def test_bytes_are_held_until_the_place_is_left():
    admission = Admission(running=1, waiting=1, most_bytes=10)
    async with admission.enter() as place:
        place.hold(4)
        place.hold(4)
        async with admission.enter() as other:
            with pytest.raises(BusyError):
                other.hold(3)
            other.hold(2)
            with pytest.raises(BusyError), admission.holding(1):
                pass
        with admission.holding(2):
            pass
    async with admission.enter() as place:
        place.hold(10)


async def test_what_arrives_needs_a_place_once_it_is_large_or_complete():
    admission = Admission(running=1, waiting=0, most_bytes=10_000_000)
    async with admission.arrive() as small, admission.arrive() as large:
        small.hold(1000)
        assert admission.inside == 0
        large.hold(2_000_000)
        assert admission.inside == 1
        with pytest.raises(BusyError):
            small.take()
        with pytest.raises(BusyError):
            async with admission.arrive():
                pass
    assert admission.inside == 0
    async with admission.arrive() as place:
        place.take()
        place.take()
        assert admission.inside == 1


async def test_one_caller_has_a_share_of_the_bytes():
    admission = Admission(running=1, waiting=5, most_bytes=10, most_of_one=6)
    async with admission.arrive("a") as first, admission.arrive("a") as second:
        first.hold(4)
        with pytest.raises(LimitError):
            second.hold(3)
        async with admission.arrive("b") as other:
            other.hold(5)
            with pytest.raises(BusyError):
                second.hold(2)
    async with admission.arrive("a") as place:
        place.hold(6)

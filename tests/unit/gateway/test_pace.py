"""How fast something must arrive."""

import asyncio

import pytest

from astrotriton.gateway.errors import UploadTimeoutError
from astrotriton.gateway.pace import Pace


async def after(seconds: float, content: bytes = b"") -> bytes:
    await asyncio.sleep(seconds)
    return content


async def test_what_keeps_coming_is_taken():
    pace = Pace(rate=1000, grace=5.0)
    for _ in range(20):
        assert await pace.wait(after(0.01, bytes(1000)), len) == bytes(1000)


async def test_what_stands_still_or_drips_is_given_up():
    pace = Pace(rate=1000, grace=0.2)
    with pytest.raises(UploadTimeoutError):
        await pace.wait(after(60.0), len)
    drip = Pace(rate=1000, grace=0.2)

    async def take() -> None:
        while True:
            await drip.wait(after(0.01, b"a"), len)

    with pytest.raises(UploadTimeoutError):
        await take()
    drip.renew()
    assert await drip.wait(after(0.0, b"a"), len) == b"a"


async def test_a_deadline_from_outside_is_not_taken_for_its_own():
    pace = Pace(rate=1000, grace=60.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await pace.wait(after(60.0), len)

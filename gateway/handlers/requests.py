"""What callers say besides the body."""

import asyncio
import contextlib
import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Request

from astrotriton.detection.errors import InputError
from astrotriton.gateway.deadline import deadline
from astrotriton.gateway.errors import ClientGoneError


def prefers_async(request: Request[Any, Any, Any]) -> bool:
    """Whether the caller would rather not wait (RFC 7240)."""
    preferences = request.headers.get("prefer", "").lower()
    return "respond-async" in {name.strip() for name in re.split("[,;]", preferences)}


@asynccontextmanager
async def patience(request: Request[Any, Any, Any], most: float) -> AsyncIterator[None]:
    """Give the block as long as the caller waits, at most so many seconds.

    Raises
    ------
    DeadlineError
        If the time is over.
    InputError
        If the caller gives no number of seconds.
    """
    given = request.headers.get("request-timeout")
    seconds = most
    if given is not None:
        try:
            seconds = min(float(given), most)
        except ValueError:
            seconds = math.nan
        if not seconds > 0.0:
            raise InputError("bad-header", "Request-Timeout", "give seconds, a number above 0")
    async with deadline(seconds):
        yield


@asynccontextmanager
async def while_connected(request: Request[Any, Any, Any]) -> AsyncIterator[None]:
    """Give up the block when the caller leaves. The body must have been read.

    Raises
    ------
    ClientGoneError
        If the caller has left, for whoever is interested.
    """
    worker = asyncio.current_task()
    assert worker is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        worker.cancel()

    watcher = asyncio.create_task(watch(), name="caller's connection")
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        worker.uncancel()
        raise ClientGoneError("the caller has left") from None
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher

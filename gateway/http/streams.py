"""Detections as a stream: Server-Sent Events, and JSON lines."""

import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import msgspec
from litestar.response import ServerSentEventMessage

from astrotriton.wire.detections import DetectionPage, StoredDetection

EVENTS = "text/event-stream"
LINES = "application/x-ndjson"

# Callers whose stream ended together do not come back together.
_RETRY = (1000, 5000)  # ms


async def as_events(
    pages: AsyncIterator[DetectionPage], shown: tuple[str, ...] | None
) -> AsyncGenerator[bytes, None]:
    """Server-Sent Events (WHATWG HTML, 9.2): each detection is an event, and its id the cursor.

    A comment is a heartbeat. It comes with an id, which a reader keeps without being told anything,
    so that it goes on behind all that did not match.
    """
    retry: int | None = random.randint(*_RETRY)
    async for page in pages:
        events = [
            ServerSentEventMessage(event="detection", id=str(one.id), data=_json(one, shown))
            for one in page.detections
        ]
        if not events or retry is not None:
            events.append(
                ServerSentEventMessage(comment="", id=str(page.next), data=None, retry=retry)
            )
            retry = None
        yield b"".join(event.encode() for event in events)


async def as_lines(
    pages: AsyncIterator[DetectionPage], shown: tuple[str, ...] | None
) -> AsyncGenerator[bytes, None]:
    """A line of JSON for each detection; an empty line is a heartbeat."""
    async for page in pages:
        yield b"".join(_json(one, shown) + b"\n" for one in page.detections) or b"\n"


#: By media type, the one that is sent without being asked for first.
STREAMS: dict[
    str,
    Callable[[AsyncIterator[DetectionPage], tuple[str, ...] | None], AsyncGenerator[bytes, None]],
] = {EVENTS: as_events, LINES: as_lines}


def _json(one: StoredDetection, shown: tuple[str, ...] | None) -> bytes:
    row: Any = one if shown is None else {name: getattr(one, name) for name in shown}
    return msgspec.json.encode(row)
